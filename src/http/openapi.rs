//! `/openapi.json`: the REST reference. A test holds it against the router.

use axum::response::{IntoResponse, Response};

static DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn document() -> Response {
    ([("content-type", "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Paths of the router, read from its source: axum does not list them.
    fn routed() -> BTreeSet<String> {
        let source = include_str!("mod.rs");
        let paths =
            source.split(".route(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
        paths.map(str::to_owned).collect()
    }

    #[test]
    fn the_reference_names_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(super::DOCUMENT).unwrap();
        let paths: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(paths, routed());
    }

    #[test]
    fn every_operation_says_what_it_does_and_how_it_is_refused() {
        let document: serde_json::Value = serde_json::from_str(super::DOCUMENT).unwrap();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                assert!(operation["summary"].is_string(), "{method} {path}");
                assert!(operation["responses"].as_object().is_some_and(|r| !r.is_empty()), "{method} {path}");
            }
        }
    }
}
