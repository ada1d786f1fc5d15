//! Rules about the source itself that nobody should have to remember.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The modules of `src` from top to bottom. A module may import those below its own line, and itself.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["demo"],
    &["app"],
    &["config"],
    &["http"],
    &["promo", "insight", "web"],
    &["session"],
    &["room"],
    &["order", "media", "fanout", "cluster"],
    &["ring"],
    &["protocol"],
    &["clock", "telemetry"],
    &["id"],
];

/// `client` stands beside the server and knows the wire only, with the times and ids that are on it.
const CLIENT_IMPORTS: &[&str] = &["protocol", "clock", "id"];

/// Who may use the library's `client`.
const CLIENT_USERS: &[&str] = &["main", "cli", "demo", "app"];

const LINES_MAX: usize = 600;

#[test]
fn imports_between_modules_point_down_only() {
    let mut wrong = BTreeSet::new();
    let mut seen = 0;
    for file in rust_files("src") {
        let owner = module_path(&file);
        for target in imports(&read(&file), &owner) {
            seen += 1;
            if !may_import(&owner[0], &target) {
                wrong.insert(format!("{}: {} imports {target}", shown(&file), owner[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "these arrows do not point down:\n{}", lines(&wrong));
    assert!(seen > 20, "only {seen} imports were found: this test reads nothing");
}

#[test]
fn every_module_has_its_place_in_the_layers() {
    let homeless: BTreeSet<String> = rust_files("src")
        .iter()
        .map(|file| module_path(file)[0].clone())
        .filter(|module| module != "lib" && module != "client" && layer(module).is_none())
        .collect();
    assert!(homeless.is_empty(), "give these a line in LAYERS:\n{}", lines(&homeless));
}

#[test]
fn no_file_is_longer_than_one_can_read() {
    let long: BTreeSet<String> = all_rust_files()
        .iter()
        .map(|file| (shown(file), read(file).lines().count()))
        .filter(|(_, count)| *count > LINES_MAX)
        .map(|(file, count)| format!("{file}: {count} lines"))
        .collect();
    assert!(long.is_empty(), "split these:\n{}", lines(&long));
}

#[test]
fn nothing_names_this_machine_or_is_left_to_be_done() {
    // Put together here, so that this file does not find itself.
    let forbidden = [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"], ["TO", "DO"], ["FIX", "ME"], ["XX", "X"]]
        .map(|word| word.concat());
    let mut found = BTreeSet::new();
    for file in text_files() {
        for (number, line) in read(&file).lines().enumerate() {
            for word in forbidden.iter().filter(|word| line.contains(word.as_str())) {
                found.insert(format!("{}:{}: {word}", shown(&file), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", lines(&found));
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    let source = r##"
        use crate::{id::RoomId, order::{self, Desk}, ring::Frame};
        pub(crate) use crate::clock::Clock; // use crate::comment::Line;
        fn f() { crate::media::start("crate::string::X", r#"crate::raw::Y"#); let c = '"'; }
        /* crate::block::Z */
        use super::session::Person;
        macro_rules! m { () => { $crate::telemetry::count() } }
        mod tests { use super::super::http::Error; use super::hub::Hub; }
    "##;
    let found = imports(source, &["room".into()]);
    let expected = ["clock", "http", "id", "media", "order", "ring", "session", "telemetry"];
    assert_eq!(found, expected.map(str::to_owned).into());
    assert_eq!(
        imports("use super::hub::Hub; use super::super::order::Desk;", &["room".into(), "tick".into()]),
        ["order".to_owned()].into()
    );
}

#[test]
fn the_layers_refuse_what_points_up_or_sideways() {
    for (from, to) in [
        ("order", "media"),
        ("protocol", "ring"),
        ("room", "session"),
        ("http", "config"),
        ("client", "room"),
        ("order", "client"),
        ("id", "clock"),
        ("room", "nowhere"),
    ] {
        assert!(!may_import(from, to), "{from} -> {to}");
    }
    for (from, to) in [
        ("app", "http"),
        ("config", "order"),
        ("room", "order"),
        ("order", "id"),
        ("client", "protocol"),
        ("room", "room"),
    ] {
        assert!(may_import(from, to), "{from} -> {to}");
    }
}

fn may_import(from: &str, to: &str) -> bool {
    if from == to || from == "lib" {
        return true;
    }
    match (from, to) {
        ("client", to) => CLIENT_IMPORTS.contains(&to),
        (from, "client") => CLIENT_USERS.contains(&from),
        (from, to) => matches!((layer(from), layer(to)), (Some(above), Some(below)) if above < below),
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The top-level modules that a source text names by `crate::`, the crate's own name, or enough `super::`.
fn imports(source: &str, owner: &[String]) -> BTreeSet<String> {
    let code = without_comments_and_strings(source);
    let mut found = BTreeSet::new();
    for root in ["crate::", "maishou::"] {
        for (at, _) in code.match_indices(root) {
            if !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                found.extend(first_names(&code[at + root.len()..]));
            }
        }
    }
    found.extend(supers(&code, owner.len()));
    found
}

/// What stands behind a chain of `super::` that reaches the root of the crate.
fn supers(code: &str, depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = code;
    while let Some(at) = rest.find("super::") {
        let inline_modules = open_modules(&code[..code.len() - rest.len() + at]);
        rest = &rest[at..];
        let mut count = 0;
        while let Some(behind) = rest.strip_prefix("super::") {
            rest = behind;
            count += 1;
        }
        if count == depth + inline_modules {
            found.extend(first_names(rest));
        }
    }
    found
}

/// How many inline modules (`mod tests {`) are open at the end of `code`.
fn open_modules(code: &str) -> usize {
    let mut open = vec![];
    let mut statement = String::new();
    for letter in code.chars() {
        match letter {
            '{' => {
                open.push(statement.trim_start_matches("pub ").trim_start().starts_with("mod "));
                statement.clear();
            }
            '}' => {
                open.pop();
                statement.clear();
            }
            ';' | ']' => statement.clear(),
            _ if statement.is_empty() && letter.is_whitespace() => {}
            _ => statement.push(letter),
        }
    }
    open.iter().filter(|is_module| **is_module).count()
}

/// `a` of `a::b`; `a` and `c` of `{a::b, c::{d, e}}`.
fn first_names(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return name_at(path).into_iter().collect();
    };
    let mut names = vec![];
    let mut depth = 0;
    let mut expects_name = true;
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expects_name = true,
            _ if expects_name && !letter.is_whitespace() => {
                names.extend(name_at(&group[at..]));
                expects_name = false;
            }
            _ => {}
        }
    }
    names
}

/// A module's name, which is in small letters; types and macros of the root are none of this test's business.
fn name_at(text: &str) -> Option<String> {
    let end = text.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(text.len());
    let name = &text[..end];
    let is_module = name.starts_with(|first: char| first.is_ascii_lowercase()) && !text[end..].starts_with('!');
    is_module.then(|| name.to_owned())
}

/// Code with comments and the insides of string and character literals left out.
fn without_comments_and_strings(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(fence) = raw_string_fence(rest) {
            let body = fence.len() + 2;
            rest[body..].find(&format!("\"{fence}")).map_or(rest.len(), |end| body + end + 1 + fence.len())
        } else if first == '"' {
            string_len(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\'") {
            rest[2..].find('\'').map_or(rest.len(), |end| end + 3)
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        rest = &rest[skipped..];
    }
    code
}

/// The `##` of `r##"`, when a raw string begins here.
fn raw_string_fence(text: &str) -> Option<&str> {
    let behind = text.strip_prefix('r')?;
    let quote = behind.find(|letter| letter != '#')?;
    behind[quote..].starts_with('"').then(|| &behind[..quote])
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `["room", "hub"]` for `src/room/hub.rs`, `["room"]` for `src/room/mod.rs`.
fn module_path(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(root().join("src")).expect("a file of src").with_extension("");
    let mut path: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|name| name == "mod") {
        path.pop();
    }
    path
}

fn all_rust_files() -> Vec<PathBuf> {
    ["src", "tests", "loadtest"].iter().flat_map(|folder| rust_files(folder)).collect()
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = files_below(&root().join(folder));
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    assert!(!files.is_empty(), "{folder} has Rust files");
    files
}

/// Every text of the project that we wrote.
fn text_files() -> Vec<PathBuf> {
    const TEXTS: &[&str] = &["rs", "toml", "md", "js", "css", "html", "json", "svg", "yml", "yaml", "sh"];
    let is_text = |file: &PathBuf| match file.extension() {
        Some(extension) => TEXTS.iter().any(|known| extension == *known),
        None => fs::read(file).is_ok_and(|bytes| bytes.starts_with(b"#!")),
    };
    let folders = ["src", "tests", "loadtest", "config", ".ci", ".cargo"];
    let mut files: Vec<PathBuf> = folders.iter().flat_map(|folder| files_below(&root().join(folder))).collect();
    files.extend(["Cargo.toml", "README.md"].map(|name| root().join(name)).into_iter().filter(|file| file.exists()));
    files.retain(is_text);
    files
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.file_name().is_none_or(|name| name != "target"))
        .flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] })
        .collect();
    files.sort();
    files
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn lines(found: &BTreeSet<String>) -> String {
    found.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}
