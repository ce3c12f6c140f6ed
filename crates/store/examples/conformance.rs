//! Tries the conformance suite on a server of your own.
//!
//! ```text
//! BACKSTAY_TEST_STORE=s3://bucket/prefix AWS_…=… cargo run -p backstay-store --features testing --example conformance
//! ```
//!
//! Never here: servers that tests start themselves; see `tests/stores.rs`.

use store::testing::conformance;
use store::{Env, Location, StoreOptions, Variables};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let location: Location = std::env::var("BACKSTAY_TEST_STORE")?.parse()?;
    let options = StoreOptions { variables: Variables::of_process(), ..StoreOptions::default() };
    let store = store::open_store(&location, &options, &Env::system()).await?;
    tracing::info!("{:?}", store::probe(&*store, &Env::system()).await?);
    conformance::conforms(&store).await;
    conformance::lets_one_of_many_racing_creates_win(&store).await;
    Ok(())
}
