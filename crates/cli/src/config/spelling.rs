//! What was probably meant by a word that is not known.
//!
//! Never here: what is known.

/// How alike two words must be, from 0 to 1.
const ALIKE: f64 = 0.75;

/// `did you mean "url"?`, if one of `known` is much like `word`; else what there is.
pub(super) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut known: Vec<&str> = known.into_iter().collect();
    let best = known.iter().map(|other| (strsim::jaro_winkler(word, other), *other));
    if let Some((_, other)) = best.filter(|(alike, _)| *alike >= ALIKE).max_by(|one, other| one.0.total_cmp(&other.0)) {
        return Some(format!("did you mean \"{other}\"?"));
    }
    known.sort_unstable();
    (!known.is_empty()).then(|| format!("there is {}", known.join(", ")))
}
