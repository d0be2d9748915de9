//! What of an output differs from run to run, taken out by small functions.

/// Every run of digits as `N`.
pub(crate) fn numbers(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        if !character.is_ascii_digit() {
            result.push(character);
        } else if !result.ends_with('N') {
            result.push('N');
        }
    }
    result
}

/// Runs of blanks as one, and none at the end of a line: columns are as wide as their numbers.
pub(crate) fn blanks(text: &str) -> String {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n";
    text.lines().map(line).collect()
}

/// The lines in alphabetical order, for what is written in the order of a directory or of processes that race.
pub(crate) fn sorted(text: &str) -> String {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.into_iter().flat_map(|line| [line, "\n"]).collect()
}
