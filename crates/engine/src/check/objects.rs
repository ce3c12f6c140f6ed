//! The small objects that everything else rests on: both configurations, key slots, epochs.
//!
//! Never here: what is sealed in them for somebody else.

use std::collections::HashSet;

use pack::{PackError, Slot, names};
use store::ObjectInfo;

use super::report::CheckReport;
use crate::repository::{Repository, open_all, open_epochs};
use crate::{EngineError, Kind};

impl Repository {
    /// Both copies of the configuration.
    pub(super) async fn check_config(&self, report: &mut CheckReport) {
        for name in [names::CONFIG, names::CONFIG_COPY] {
            let read = self.store.get(name).await.map_err(EngineError::from);
            let right = read.and_then(|bytes| pack::Config::decode(&bytes).map_err(EngineError::object(name)));
            match right {
                Ok(config) if config == self.config => {}
                Ok(_) => report.damage(name, "differs from the other copy"),
                Err(error) if error.kind() == Kind::Damaged => report.damage(name, &error.to_string()),
                Err(error) => report.unclear(error),
            }
        }
    }

    /// Key slots and epochs. A damaged one may have been any key's.
    pub(super) async fn check_keys(&self, report: &mut CheckReport) -> Result<(), EngineError> {
        let (owner, repository) = (self.config.owner, self.config.repository);
        let open = |info: &ObjectInfo, bytes: &[u8]| {
            Slot::decode(bytes, owner, repository)?;
            if info.name == names::key_slot(bytes) { Ok(()) } else { Err(PackError::Hash) }
        };
        for (info, slot) in open_all(&self.store, names::KEYS, open).await? {
            slot.unwrap_or_else(|error| report.damage(&info.name, &error.to_string()));
        }
        let mut there = HashSet::new();
        for (info, epoch) in open_epochs(&self.store, &self.config).await? {
            there.extend(names::last(&info.name).parse::<u32>());
            match epoch {
                Ok(epoch) => drop(there.insert(epoch.number)),
                Err(error) => report.damage(&info.name, &error.to_string()),
            }
        }
        let known = self.keyring.epochs.keys().chain(&there).max().copied().unwrap_or(0);
        for number in (1..=known).filter(|number| !there.contains(number)) {
            report.damage(&names::epoch(number), "is missing");
        }
        Ok(())
    }
}
