//! What a command works with: the options of every command, the terminal, the clock, interrupts.
//!
//! ```text
//! options ─► location ─► store ┐
//! options, environment, terminal ─► credential ├─► Repository
//! options ─► cache folder ─────┘
//! ```
//!
//! Invariant: waiting for a store or a person ends at the first interrupt.
//! Never here: what a command does.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use engine::{Credential, OpenOptions, Repository};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use store::index_cache::CacheOptions;
use store::{Env, Location, SharedStore, StoreOptions};

use crate::config::{self, Found, JobConfig, RepositoryConfig};
use crate::credential;
use crate::error::CommandError;
use crate::globals::GlobalArgs;
use crate::interrupts::Interrupts;
use crate::ui::Ui;

/// What a command works with.
pub(crate) struct Context {
    pub(crate) globals: GlobalArgs,
    pub(crate) ui: Ui,
    pub(crate) env: Env,
    pub(crate) interrupts: Interrupts,
    /// The configuration, once somebody asked for it.
    pub(crate) found: OnceLock<Option<Found>>,
    /// The repository that a job names.
    pub(crate) job_repository: Mutex<Option<String>>,
}

impl Context {
    /// The repository that a job names, unless an option names another.
    pub(crate) async fn open_repository_of(&self, name: Option<&str>) -> Result<Repository, CommandError> {
        if let Some(name) = name {
            self.mean(name);
        }
        self.open_repository().await
    }

    /// The repository of a job that is run, within the limits of the job.
    pub(crate) async fn open_repository_for(&self, job: &JobConfig) -> Result<Repository, CommandError> {
        if let Some(name) = &job.repository {
            self.mean(name);
        }
        self.open_repository_within(job.limit_upload.map(|rate| rate.0)).await
    }

    /// From here on this repository is meant, unless an option names another.
    pub(crate) fn mean(&self, name: &str) {
        if self.globals.repository.repository.is_none() {
            *self.job_repository.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.to_owned());
        }
    }

    /// The repository, opened with the credential that was given or asked for.
    pub(crate) async fn open_repository(&self) -> Result<Repository, CommandError> {
        self.open_repository_within(None).await
    }

    /// The same; uploads may take so many bytes per second, unless an option says otherwise.
    async fn open_repository_within(&self, limit_upload: Option<NonZeroU64>) -> Result<Repository, CommandError> {
        let mut options = self.globals.store.options();
        options.limit_upload = options.limit_upload.or(limit_upload);
        self.open_with(options, self.open_options()?).await
    }

    /// The repository, for a process that stays: its cache is another than that of commands, which would find theirs in
    /// use, and keeps so many bytes of blobs, unless the repository is a folder.
    pub(crate) async fn open_repository_to_look(&self, blobs_len_max: u64) -> Result<Repository, CommandError> {
        let mut options = self.open_options()?;
        options.cache.folder = looking_folder(&options.cache.folder);
        if !matches!(self.location()?, Location::Directory(_)) {
            options.cache.blobs_len_max = blobs_len_max;
        }
        self.open_with(self.globals.store.options(), options).await
    }

    async fn open_with(&self, store: StoreOptions, options: OpenOptions) -> Result<Repository, CommandError> {
        let opened = async {
            let store = store::open_store(&self.location()?, &store, &self.env).await?;
            let credential = self.credential(&["password: "]).await?;
            Ok(Repository::open(store, self.env.clone(), credential, options).await?)
        };
        self.unless_interrupted(opened).await
    }

    /// Where the repository is.
    pub(crate) fn location(&self) -> Result<Location, CommandError> {
        if let Some(repository) = self.configured_repository()? {
            return Ok(repository.url.parse()?);
        }
        match self.globals.repository.repository.as_deref() {
            None | Some("") => Err(CommandError::RepositoryUnnamed),
            Some(text) => Ok(text.parse()?),
        }
    }

    /// The folders of all repositories that lie in one: those of the configuration, and the one that an option names.
    /// No repository has to be meant.
    pub(crate) fn repository_folders(&self) -> Result<Vec<PathBuf>, CommandError> {
        let folder = |location| if let Location::Directory(folder) = location { Some(folder) } else { None };
        let configured = self.config()?.map(|found| found.config.repositories.values());
        let configured = configured.into_iter().flatten().filter_map(|repository| repository.url.parse().ok());
        let mut folders: Vec<PathBuf> = configured.filter_map(folder).collect();
        match self.location() {
            Ok(location) => folders.extend(folder(location)),
            Err(CommandError::RepositoryUnnamed) => {}
            Err(error) => return Err(error),
        }
        Ok(folders)
    }

    /// The configuration that is named, or found at the usual places.
    pub(crate) fn config(&self) -> Result<Option<&Found>, CommandError> {
        if self.found.get().is_none() {
            let found = config::find(self.globals.repository.config.as_deref())?;
            drop(self.found.set(found));
        }
        Ok(self.found.get().and_then(Option::as_ref))
    }

    /// A job of the configuration.
    pub(crate) fn job(&self, name: &str) -> Result<&JobConfig, CommandError> {
        let jobs = &self.config()?.ok_or(CommandError::ConfigMissing)?.config.jobs;
        jobs.get(name).ok_or_else(|| {
            let known = jobs.keys().cloned().collect::<Vec<_>>().join(", ");
            CommandError::JobUnknown { name: name.to_owned(), known }
        })
    }

    /// Whether the command line or a job chose the repository by its name in the configuration. What the environment says of
    /// credentials is then for another one, as BACKSTAY_REPOSITORY is.
    fn is_chosen_by_name(&self) -> Result<bool, CommandError> {
        if self.job_repository.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(true);
        }
        let Some(name) = self.globals.repository.repository.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(false);
        };
        let is_of_environment = std::env::var_os("BACKSTAY_REPOSITORY").is_some_and(|other| other == name);
        Ok(!is_of_environment && self.repository_called(name)?.is_some())
    }

    /// The repository of the configuration that is meant: the one named, or the only one if none is named.
    fn configured_repository(&self) -> Result<Option<&RepositoryConfig>, CommandError> {
        let of_job = self.job_repository.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let named = self.globals.repository.repository.as_deref().filter(|name| !name.is_empty());
        let named = named.or(of_job.as_deref());
        if let Some(name) = named {
            return self.repository_called(name);
        }
        let Some(found) = self.config()? else { return Ok(None) };
        let mut repositories = found.config.repositories.values();
        Ok(repositories.next().filter(|_| repositories.next().is_none()))
    }

    /// The repository of the configuration that is called so, if what is named can be such a name.
    pub(crate) fn repository_called(&self, name: &str) -> Result<Option<&RepositoryConfig>, CommandError> {
        if name.contains(['/', ':', '.']) {
            return Ok(None);
        }
        Ok(self.config()?.and_then(|found| found.config.repositories.get(name)))
    }

    /// The store at the location.
    pub(crate) async fn open_store(&self) -> Result<SharedStore, CommandError> {
        Ok(store::open_store(&self.location()?, &self.globals.store.options(), &self.env).await?)
    }

    /// The credential by options, environment, configuration or terminal, with these prompts. The configuration comes first
    /// of a repository that was chosen by its name there.
    pub(crate) async fn credential(&self, prompts: &[&'static str]) -> Result<Credential, CommandError> {
        let of_entry = || -> Result<_, CommandError> {
            self.configured_repository()?.map_or(Ok(None), |repository| repository.choice().one(""))
        };
        let mut given = self.globals.repository.choice().one("--")?;
        if given.is_none() && self.is_chosen_by_name()? {
            given = of_entry()?;
        }
        if given.is_none() {
            given = credential::from_variables("BACKSTAY_", |name| std::env::var_os(name))?;
        }
        if given.is_none() {
            given = of_entry()?;
        }
        match given {
            Some(given) => credential::read(given).await,
            None => credential::ask(prompts).await,
        }
    }

    /// How repositories are opened.
    pub(crate) fn open_options(&self) -> Result<OpenOptions, CommandError> {
        let cache = CacheOptions::new(self.cache_folder()?).with_temporary(temporary_cache_folders().into());
        Ok(OpenOptions { cache })
    }

    /// Where caches lie: one folder per repository.
    pub(crate) fn cache_folder(&self) -> Result<PathBuf, CommandError> {
        if let Some(folder) = self.globals.repository.cache_dir.as_ref().filter(|folder| !folder.as_os_str().is_empty())
        {
            return Ok(folder.clone());
        }
        // The specification says that a relative path counts as unset.
        let xdg = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
        if let Some(folder) = xdg {
            return Ok(folder.join("backstay"));
        }
        let home = std::env::home_dir().filter(|home| home.is_absolute()).ok_or(CommandError::CachePlace)?;
        Ok(home.join(".cache/backstay/cache"))
    }

    /// This host's clock, in this host's zone.
    pub(crate) fn now(&self) -> Zoned {
        let now = Timestamp::from_nanosecond(self.env.now().as_nanos()).unwrap_or_default();
        now.to_zoned(TimeZone::system())
    }

    /// Runs `work` until an interrupt.
    pub(crate) async fn unless_interrupted<T>(
        &self,
        work: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        tokio::select! {
            done = work => done,
            () = self.interrupts.token.cancelled() => Err(CommandError::Interrupted),
        }
    }
}

/// Where the caches of mounts and servers lie, beside those of commands.
pub(crate) fn looking_folder(caches: &Path) -> PathBuf {
    caches.join("looking")
}

/// Where a command keeps a cache for its own time if the usual folder cannot be used: folders of this user's own, on
/// disk or, where no disk may be written to, in memory.
pub(crate) fn temporary_cache_folders() -> [PathBuf; 2] {
    let own = format!("backstay-{}", rustix::process::geteuid().as_raw());
    [std::env::temp_dir(), PathBuf::from("/dev/shm")].map(|folder| folder.join(&own))
}
