//! The small objects that everything else rests on: both configurations, key slots, epochs.
//!
//! Never here: what is sealed in them for somebody else.

use std::collections::HashSet;

use pack::{Epoch, Slot, names};

use super::report::CheckReport;
use crate::repository::{Repository, read_all};
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
        for (info, bytes) in read_all(&self.store, names::KEYS).await? {
            match Slot::decode(&bytes, owner, repository) {
                Ok(_) if info.name == names::key_slot(&bytes) => {}
                Ok(_) => report.damage(&info.name, "is not named after its content"),
                Err(error) => report.damage(&info.name, &error.to_string()),
            }
        }
        let mut there = HashSet::new();
        for (info, bytes) in read_all(&self.store, names::EPOCHS).await? {
            match Epoch::decode(&bytes, owner, repository) {
                Ok(epoch) if info.name == names::epoch(epoch.number) => drop(there.insert(epoch.number)),
                Ok(_) => report.damage(&info.name, "is another epoch than its name says"),
                Err(error) => report.damage(&info.name, &error.to_string()),
            }
            there.extend(names::last(&info.name).parse::<u32>());
        }
        let known = self.keyring.epochs.keys().chain(&there).max().copied().unwrap_or(0);
        for number in (1..=known).filter(|number| !there.contains(number)) {
            report.damage(&names::epoch(number), "is missing");
        }
        Ok(())
    }
}
