//! `${NAME}` and `${NAME:-default}` in strings, out of the environment; `$$` is a dollar sign.
//!
//! What a variable holds is never read again: its dollar signs, quotes and newlines mean nothing.
//!
//! Never here: which strings.

/// Why a string cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfilled {
    /// A variable that is not set, without a default.
    Unset(String),
    /// A `${` that never ends, or has no name.
    Malformed,
}

/// Fills in `text`.
pub(super) fn fill(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, Unfilled> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some(after) = after.strip_prefix('{') else {
            out.push('$');
            rest = after;
            continue;
        };
        let (inside, after) = after.split_once('}').ok_or(Unfilled::Malformed)?;
        let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default)));
        if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
            return Err(Unfilled::Malformed);
        }
        let value = variable(name).filter(|value| !value.is_empty()).or_else(|| default.map(str::to_owned));
        out.push_str(&value.ok_or_else(|| Unfilled::Unset(name.to_owned()))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}
