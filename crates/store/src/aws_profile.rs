//! The profile in `~/.aws/credentials` and `~/.aws/config`, as far as it holds plain keys.
//!
//! ```text
//! which   options > AWS_PROFILE > default
//! where   AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE, else below ~/.aws
//! what    aws_access_key_id, aws_secret_access_key, aws_session_token, region, endpoint_url
//! ```
//!
//! Invariant: a profile that is asked for by name exists, or opening fails.
//! Never here: roles, single sign-on, credential processes. A profile that needs them is refused by name
//! of what it needs, never silently passed over.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ini::{Ini, ParseOption, Properties};

use crate::clouds::setting;
use crate::{StoreError, StoreOptions};

/// What a profile says. Everything is absent where there is no profile.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    pub(crate) keys: Option<Keys>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
}

/// Static keys.
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Settings that promise keys which we cannot fetch.
const UNSUPPORTED: [&str; 5] = ["role_arn", "sso_session", "sso_start_url", "credential_process", "credential_source"];

impl Profile {
    /// Reads the chosen profile.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setting`] if a file cannot be read, if a profile asked for by name is nowhere, or if
    /// its keys come from somewhere we do not support and nothing else gives keys.
    pub(crate) fn read(options: &StoreOptions) -> Result<Self, StoreError> {
        let variables = &options.variables;
        let named = options.s3.profile.as_deref().or_else(|| variables.get("AWS_PROFILE"));
        let name = named.unwrap_or("default");
        let secrets = load(options, "AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
        let config = load(options, "AWS_CONFIG_FILE", "config")?;
        let in_config = match name {
            "default" => section(&config, "default").or_else(|| section(&config, "profile default")),
            name => section(&config, &format!("profile {name}")),
        };
        let sections = [section(&secrets, name), in_config];
        if named.is_some() && sections.iter().all(Option::is_none) {
            return Err(setting("AWS profile", format!("{name} is in neither file of ~/.aws")));
        }
        let look = |key: &str| sections.iter().flatten().find_map(|section| section.get(key));
        let keys = keys(look);
        if keys.is_none() && !options.gives_keys() {
            refuse_unsupported(name, look)?;
        }
        Ok(Self {
            // The environment's web identity comes before the files, unless a profile is asked for.
            keys: keys.filter(|_| options.s3.profile.is_some() || !options.gives_web_identity()),
            region: look("region").map(str::to_owned),
            endpoint: look("endpoint_url").map(str::to_owned),
        })
    }
}

impl StoreOptions {
    /// Whether keys are set that beat the profile's.
    pub(crate) fn gives_keys(&self) -> bool {
        let by_variable = self.variables.get("AWS_ACCESS_KEY_ID").is_some();
        self.s3.access_key_id.is_some() || (self.s3.profile.is_none() && by_variable)
    }

    fn gives_web_identity(&self) -> bool {
        let keys = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"];
        keys.iter().all(|key| self.variables.get(key).is_some())
    }
}

fn keys<'a>(look: impl Fn(&str) -> Option<&'a str>) -> Option<Keys> {
    Some(Keys {
        id: look("aws_access_key_id")?.to_owned(),
        secret: look("aws_secret_access_key")?.to_owned(),
        token: look("aws_session_token").map(str::to_owned),
    })
}

fn refuse_unsupported<'a>(name: &str, look: impl Fn(&str) -> Option<&'a str>) -> Result<(), StoreError> {
    match UNSUPPORTED.iter().find(|key| look(key).is_some()) {
        Some(key) => Err(setting("AWS profile", format!("{name} has no keys but {key}, which is not supported"))),
        None => Ok(()),
    }
}

fn section<'a>(file: &'a Ini, name: &str) -> Option<&'a Properties> {
    file.section(Some(name))
}

fn load(options: &StoreOptions, variable: &str, file: &str) -> Result<Ini, StoreError> {
    let home = options.variables.get("HOME").map(|home| Path::new(home).join(".aws").join(file));
    let named = options.variables.get(variable).map(PathBuf::from);
    let Some(path) = named.or(home) else {
        return Ok(Ini::new());
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Ini::new()),
        Err(error) => return Err(setting("AWS profile", format!("{}: {error}", path.display()))),
    };
    let plain = ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
    Ini::load_from_str_opt(&text, plain)
        .map_err(|error| setting("AWS profile", format!("{}: line {}", path.display(), error.line)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Variables;

    const CREDENTIALS: &str = "[default]\naws_access_key_id = A\naws_secret_access_key = s/#e+c=\n\
                               [other]\naws_access_key_id=B\naws_secret_access_key=t\naws_session_token=k\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\n[profile role]\nrole_arn = arn:x\nsource_profile = default\n";

    fn options(folder: &Path) -> StoreOptions {
        let variables = [("AWS_SHARED_CREDENTIALS_FILE", CREDENTIALS), ("AWS_CONFIG_FILE", CONFIG)];
        let variables = variables.iter().fold(Variables::none(), |variables, (key, text)| {
            let path = folder.join(key);
            std::fs::write(&path, text).expect("written");
            variables.with(key, path.to_str().expect("a plain path"))
        });
        StoreOptions { variables, ..StoreOptions::default() }
    }

    fn named(folder: &Path, name: &str) -> StoreOptions {
        let mut options = options(folder);
        options.s3.profile = Some(name.into());
        options
    }

    #[test]
    fn default_profile_joins_keys_and_region_of_both_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let profile = Profile::read(&options(folder.path())).expect("reads");
        let keys = profile.keys.expect("keys");
        assert_eq!((keys.id.as_str(), keys.secret.as_str()), ("A", "s/#e+c="));
        assert_eq!(profile.region.as_deref(), Some("eu-west-1"));
    }

    #[test]
    fn profile_asked_for_by_name_is_taken_or_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let profile = Profile::read(&named(folder.path(), "other")).expect("reads");
        assert_eq!(profile.keys.expect("keys").token.as_deref(), Some("k"));
        let error = Profile::read(&named(folder.path(), "nobody")).expect_err("absent");
        assert!(error.to_string().contains("nobody"), "{error}");
    }

    #[test]
    fn profile_that_needs_a_role_is_refused_by_what_it_needs() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Profile::read(&named(folder.path(), "role")).expect_err("unsupported");
        assert!(error.to_string().contains("role_arn"), "{error}");
    }

    #[test]
    fn web_identity_in_the_environment_beats_the_default_profile() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = options(folder.path());
        options.variables = options.variables.with("AWS_WEB_IDENTITY_TOKEN_FILE", "/t").with("AWS_ROLE_ARN", "arn:y");
        assert!(Profile::read(&options).expect("reads").keys.is_none());
    }

    #[test]
    fn host_without_files_has_an_empty_profile() {
        let options = StoreOptions { variables: Variables::none(), ..StoreOptions::default() };
        assert!(Profile::read(&options).expect("reads").keys.is_none());
    }
}
