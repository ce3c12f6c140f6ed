//! Just enough reading of Rust: where words begin, what is code, and where a function ends.
//!
//! Invariant: blanking keeps every line break, so that line numbers stay true.
//! Never here: which rule a finding breaks.

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a word in `line` begins like `start`: "corrupt" finds "corrupted", and "_" divides words.
pub(super) fn has_word_start(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| !line[..at].ends_with(char::is_alphanumeric))
}

pub(super) fn has_word(line: &str, word: &str) -> bool {
    let inside = |at: usize| line[..at].ends_with(is_word_char) || line[at + word.len()..].starts_with(is_word_char);
    line.match_indices(word).any(|(at, _)| !inside(at))
}

/// Name and length in lines of each function that has a body. Takes what [`code_only`] returns.
pub(super) fn functions(code: &str) -> Vec<(String, usize)> {
    let starts = code.match_indices("fn ").filter(|(at, _)| !code[..*at].ends_with(is_word_char));
    starts
        .filter_map(|(at, _)| {
            let name: String = code[at + 3..].chars().take_while(|c| is_word_char(*c)).collect();
            let (mut braces, mut brackets) = (0, 0);
            let end = code[at..].find(|c: char| {
                match c {
                    '{' => braces += 1,
                    '}' => braces -= 1,
                    '(' | '[' => brackets += 1,
                    ')' | ']' => brackets -= 1,
                    _ => {}
                }
                braces == 0 && (c == '}' || (c == ';' && brackets == 0))
            })?;
            let body = &code[at..=at + end];
            (body.ends_with('}') && !name.is_empty()).then(|| (name, body.lines().count()))
        })
        .collect()
}

/// The text with comments, strings and characters blanked out, line for line.
pub(super) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (len, is_code) = first_token(rest);
        let (token, after) = rest.split_at(len);
        code.extend(token.chars().map(|c| if is_code || c == '\n' { c } else { ' ' }));
        rest = after;
    }
    code
}

/// The length in bytes of the token that `rest` starts with, and whether it is code.
fn first_token(rest: &str) -> (usize, bool) {
    let until = |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    let word_len = rest.find(|c| !is_word_char(c)).unwrap_or(rest.len());
    let hashes = rest[word_len..].len() - rest[word_len..].trim_start_matches('#').len();
    let raw = ["r", "br", "cr"].contains(&&rest[..word_len]) && rest[word_len + hashes..].starts_with('"');
    if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), false)
    } else if rest.starts_with("/*") {
        (until(2, "*/"), false)
    } else if raw {
        (until(word_len + hashes + 1, &format!("\"{}", "#".repeat(hashes))), false)
    } else if word_len > 0 {
        (word_len, true)
    } else if rest.starts_with('"') {
        (quoted_len(rest, '"'), false)
    } else if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') && rest.starts_with('\'') {
        (quoted_len(rest, '\''), false)
    } else {
        (rest.chars().next().map_or(0, char::len_utf8), true)
    }
}

fn quoted_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = rest[1..].find(|c| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(rest.len(), |at| at + 2)
}

#[test]
fn the_scan_sees_code_where_code_is() {
    let text = "fn a<'x>(c: char) { // {\n let s = \"}\\\"{\"; let r = r#\"\"}\"#;\n match c { '{' => 1, '\\'' => 2 }\n}\nfn b();\n";
    assert_eq!(functions(&code_only(text)), [("a".to_owned(), 4)]);
    assert!(has_word_start("a corrupted pack", "corrupt") && !has_word_start("Corruption", "corrupt"));
    assert!(has_word("seal: x", "seal") && !has_word("sealed_at", "seal"));
}
