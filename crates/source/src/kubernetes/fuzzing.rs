//! What kubectl may print, for the targets in `fuzz/`.
//!
//! Never here: kubectl.

use serde_json::Value;

use super::read::path_of;
use super::{Items, canonical, is_derived};
use crate::entry::EntryPath;
use crate::fuzzing::pieces;

/// Takes a list apart, whole and in pieces, and each object to its path and the form in which it is kept.
///
/// # Panics
///
/// If objects are others in pieces, a path leads elsewhere, or what is kept changes when it is made again.
pub fn list(bytes: &[u8]) {
    let whole = taken([bytes].into_iter());
    assert_eq!(whole, taken(pieces(bytes)));
    for object in &whole.0 {
        let Ok(object) = serde_json::from_slice::<Value>(object) else { continue };
        let _ = is_derived(&object);
        if let Ok(path) = path_of("kubernetes", &object)
            && let Ok(path) = EntryPath::try_from(path.into_bytes())
        {
            assert_eq!(path.as_bytes().iter().filter(|&&byte| byte == b'/').count(), 2);
        }
        let kept = canonical(object);
        let read: Value = serde_json::from_slice(&kept).expect("what is kept is JSON");
        assert_eq!(canonical(read), kept);
    }
}

fn taken<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Result<(), &'static str>) {
    let (mut items, mut found) = (Items::default(), Vec::new());
    for piece in pieces {
        match items.push(piece) {
            Ok(objects) => found.extend(objects),
            // What an error leaves of the objects before it depends on the pieces: nothing of them is kept.
            Err(why) => return (Vec::new(), Err(why)),
        }
    }
    match items.finish() {
        Ok(()) => (found, Ok(())),
        Err(why) => (found, Err(why)),
    }
}
