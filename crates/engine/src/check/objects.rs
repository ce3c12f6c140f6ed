//! The small objects that everything else rests on: both configurations, key slots, epochs.
//!
//! Never here: what is sealed in them for somebody else.

use std::collections::HashSet;

use pack::{PackError, names};
use store::{ObjectInfo, StoreError};

use super::detail;
use super::report::CheckReport;
use crate::repository::{Repository, open_all, open_epoch, open_slot_object};
use crate::{EngineError, Kind};

/// What is wrong with an object that is named beside this.
fn detail_of(error: &EngineError) -> String {
    match error {
        EngineError::Store(StoreError::NotFound { .. }) => "is missing".to_owned(),
        other => detail(other),
    }
}

impl Repository {
    /// Both copies of the configuration.
    pub(super) async fn check_config(&self, report: &mut CheckReport) {
        for name in [names::CONFIG, names::CONFIG_COPY] {
            let read = async || {
                let bytes = self.store.get(name).await?;
                pack::Config::decode(&bytes).map_err(EngineError::object(name))
            };
            let right = match read().await {
                Ok(config) if config == self.config => continue,
                _ => read().await,
            };
            match right {
                Ok(config) if config == self.config => {}
                Ok(_) => report.damage(name, "differs from the other copy"),
                Err(error) if error.kind() == Kind::Damaged => report.damage(name, &detail_of(&error)),
                Err(error) => report.unclear(error),
            }
        }
    }

    /// Key slots and epochs, and the second copies of both. A damaged slot may have been any key's.
    pub(super) async fn check_keys(&self, report: &mut CheckReport) -> Result<(), EngineError> {
        let open = |info: &ObjectInfo, bytes: &[u8]| open_slot_object(&self.config, &info.name, bytes);
        let slots = self.check_copies(names::KEYS, open, report).await?;
        let copies = self.check_copies(names::KEYS_COPY, open, report).await?;
        for name in &slots {
            if !copies.contains(&names::copy_of(name)) {
                report.damage(&names::copy_of(name), "is missing");
            }
        }
        for copy in &copies {
            let name = format!("{}/{}", names::KEYS, names::last(copy));
            if !slots.contains(&name) {
                report.damage(&name, "is missing");
            }
        }
        let mut there = HashSet::new();
        for prefix in [names::EPOCHS, names::EPOCHS_COPY] {
            let open = |info: &ObjectInfo, bytes: &[u8]| open_epoch(&self.config, &info.name, bytes);
            there.extend(self.check_copies(prefix, open, report).await?);
        }
        let numbers = there.iter().filter_map(|name| names::last(name).parse::<u32>().ok());
        let known = self.keyring.epochs.keys().copied().chain(numbers).max().unwrap_or(0);
        for number in 1..=known {
            let name = names::epoch(number);
            for name in [names::copy_of(&name), name] {
                if !there.contains(&name) {
                    report.damage(&name, "is missing");
                }
            }
        }
        Ok(())
    }

    /// Opens every object below `prefix`; gives the names of all.
    async fn check_copies<T>(
        &self,
        prefix: &str,
        open: impl Fn(&ObjectInfo, &[u8]) -> Result<T, PackError>,
        report: &mut CheckReport,
    ) -> Result<HashSet<String>, EngineError> {
        let mut there = HashSet::new();
        for (info, opened) in open_all(&self.store, prefix, open).await? {
            if let Err(error) = opened {
                report.damage(&info.name, &error.to_string());
            }
            there.insert(info.name);
        }
        Ok(there)
    }
}
