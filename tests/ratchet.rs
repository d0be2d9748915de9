//! Counts that may only fall: `unsafe`, `unwrap`/`expect` outside tests, and `static` items, by `tests/ratchet.txt`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const LIMITS: &str = "tests/ratchet.txt";
const SOURCES: [&str; 3] = ["src", "syscall-table/src", "guest-runtime/src"];

#[test]
fn counts_only_fall() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut counts = BTreeMap::new();
    for file in SOURCES
        .iter()
        .flat_map(|directory| sources(&root.join(directory)))
    {
        let text = fs::read_to_string(&file).expect("read a source file");
        for (name, more) in count(&without_tests(&without_text(&text))) {
            *counts.entry(name).or_insert(0) += more;
        }
    }
    let limits = fs::read_to_string(root.join(LIMITS)).expect("read the limits");
    for line in limits.lines().filter(|line| !line.starts_with('#')) {
        let (name, limit) = line.split_once(" = ").expect("name = number");
        let limit: usize = limit.parse().expect("a number");
        let count = counts.remove(name).expect("a known name");
        assert!(
            count <= limit,
            "{name}: {count}, but at most {limit}: do without, or say in {LIMITS} why not"
        );
        if count < limit {
            println!("{name}: {count} of {limit}: write '{name} = {count}' into {LIMITS}");
        }
    }
    assert!(counts.is_empty(), "no limits for {counts:?}");
}

/// All Rust files below a directory but those that are tests as a whole.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("read a source directory") {
        let path = entry.expect("read a source directory").path();
        let tests = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() && !tests {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !tests {
            found.push(path);
        }
    }
    found
}

/// The source without comments and without what stands in string and character literals.
fn without_text(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 2;
            rest[start..]
                .find(&end)
                .map_or(rest.len(), |at| start + at + end.len())
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && (rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'')) {
            quoted(rest, '\'')
        } else {
            // A name as a whole: the r at its end starts no raw string.
            let name = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let length = name.max(first.len_utf8());
            // A lifetime is no word.
            if first == '\'' {
                let lifetime = rest[1..]
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(0);
                rest = &rest[1 + lifetime..];
                continue;
            }
            result.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        };
        result.push(' ');
        rest = &rest[length..];
    }
    result
}

/// How many `#` the raw string that starts here has.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// The length of the literal that starts here, with its quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        if character == quote && !escaped {
            return at + 1;
        }
        escaped = character == '\\' && !escaped;
    }
    text.len()
}

/// The source without the items marked `#[cfg(test)]`.
fn without_tests(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("#[cfg(test)]") {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(['{', ';']).unwrap_or(rest.len());
        let mut depth = 0;
        let block = rest[end..].char_indices().find(|(_, character)| {
            depth += i32::from(*character == '{') - i32::from(*character == '}');
            depth == 0
        });
        rest = block.map_or("", |(at, _)| &rest[end + at + 1..]);
    }
    result + rest
}

/// How often each of the counted things stands in code.
fn count(code: &str) -> [(&'static str, usize); 3] {
    let word = |wanted: &str| {
        code.split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| *word == wanted)
            .count()
    };
    let unwraps = code.matches(".unwrap()").count() + code.matches(".expect(").count();
    [
        ("static", word("static")),
        ("unsafe", word("unsafe")),
        ("unwrap", unwraps),
    ]
}

#[test]
fn counts_what_is_code() {
    let source = r##"
        // unsafe in a comment
        static A: &'static str = "unsafe static \" .unwrap()"; /* unsafe */
        fn f<'a>(x: &'a str) -> char { unsafe { g(r#"unsafe"#).unwrap(); h.expect('"'); y.unwrap_or(1) } }
        #[cfg(test)] mod tests { fn t() { x.unwrap(); unsafe {} } }
        fn last() { a.b.unwrap() }
    "##;
    let code = without_tests(&without_text(source));
    assert_eq!(
        count(&code),
        [("static", 1), ("unsafe", 1), ("unwrap", 3)],
        "{code}"
    );
}
