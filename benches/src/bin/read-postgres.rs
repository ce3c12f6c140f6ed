//! Reads a whole Postgres server and throws it away, to compare the source alone with `pg_basebackup >/dev/null`.
//!
//! ```text
//! read-postgres PORT      user `owner` on loopback, without a password; prints the bytes of all files
//! ```
//!
//! Never here: cutting, naming and storing.

use std::io::Write as _;

use futures::TryStreamExt as _;
use source::events::Event;
use source::postgres::{BaseBackup, Host, Server, base_backup};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).ok_or("which port?")?.parse()?;
    let server = Server::new(vec![Host::new("127.0.0.1", port)], "owner");
    let mut events = base_backup(server, BaseBackup::default());
    let mut len = 0;
    while let Some(event) = events.try_next().await? {
        if let Event::Data(data) = event {
            len += data.len();
        }
    }
    writeln!(std::io::stdout(), "{len}")?;
    Ok(())
}
