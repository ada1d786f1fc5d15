//! How deep a JSON text nests.

/// Objects and arrays inside each other, counted without parsing: a text that is too deep is refused before anything
/// recurses into it. What is not JSON has a depth too.
pub fn json_depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings() {
        for (text, depth) in [
            ("", 0),
            ("7", 0),
            (r#"{"a":[1,{"b":2}]}"#, 3),
            (r#"[[],[[]],[]]"#, 3),
            (r#"{"a":"[[[[\"[[["}"#, 1),
            (r#"["\\",[]]"#, 2),
            ("]]]}[", 1),
        ] {
            assert_eq!(json_depth(text.as_bytes()), depth, "{text}");
        }
        assert_eq!(json_depth("[".repeat(1_000_000).as_bytes()), 1_000_000);
    }
}
