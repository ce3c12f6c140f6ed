//! The password or key file of a key that is being made, beside the one in use.
//!
//! Invariant: it comes from options of its own or the terminal, never from the variables of the key in use.
//! Never here: reading secrets (see `credential`).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use engine::Credential;

use crate::context::Context;
use crate::credential::{self, Choice};
use crate::error::CommandError;

/// What will open the key.
#[derive(Debug, Args)]
#[command(next_help_heading = "The new password or key file")]
pub(super) struct ReplacementArgs {
    /// Read the new password from a file
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,

    /// Read the new password from what a shell command prints
    #[arg(long, value_name = "COMMAND")]
    new_password_command: Option<OsString>,

    /// Use this key file for the new key
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
}

impl ReplacementArgs {
    /// Reads it, or asks for a password twice.
    pub(super) async fn credential(&self, ctx: &Context) -> Result<Credential, CommandError> {
        let choice = Choice {
            password_file: self.new_password_file.clone(),
            password_command: self.new_password_command.clone(),
            key_file: self.new_key_file.clone(),
        };
        let read = async {
            match choice.one("--new-")? {
                Some(given) => credential::read(given).await,
                None => credential::ask(&["new password: ", "the same again: "]).await,
            }
        };
        ctx.unless_interrupted(read).await
    }
}
