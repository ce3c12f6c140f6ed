//! `make model`: searches every setup of the catalogue, and prints how many states and how long.
//!
//! ```text
//! cargo run --release -p backstay-protocol --example full [-- STATES_MAX [NAME…]]
//! ```
//!
//! Each setup is searched up to a number of states: thirty million unless told otherwise, which is half an hour for all of them on a
//! core that others use too. A hundred million take hours, and about 6 GiB of memory. A search that meets its bound says so: what it
//! visited holds, and nothing is said of the rest. The states are the nearest ones, as the search is by distance.
//!
//! Invariant: it fails when anything does not hold.
//! Never here: setups (see `catalogue`).

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Instant;

use backstay_protocol::{Model, Outcome, Rules, Search, catalogue, explore};

/// Fits into 4 GiB.
const STATES_MAX: usize = 30_000_000;

fn main() -> std::io::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let states_max = arguments.next().and_then(|number| number.parse().ok()).unwrap_or(STATES_MAX);
    let names: Vec<String> = arguments.collect();
    let mut code = ExitCode::SUCCESS;
    for (name, setup) in
        catalogue::SEARCHES.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|own| own == name))
    {
        let begun_at = Instant::now();
        let found = explore(&Model { rules: Rules::WRITTEN, setup: *setup }, Search { states_max, seeks: Search::ALL });
        let outcome = match &found.outcome {
            Outcome::Holds => "holds".to_owned(),
            Outcome::Bounded => "holds so far".to_owned(),
            Outcome::Fails(broken, way) => {
                code = ExitCode::FAILURE;
                format!("FAILS: {broken:?}\n{}\n", way.join("\n"))
            }
        };
        writeln!(
            stdout(),
            "{name:<22} {outcome:<12} {:>11} states {:>12} steps, depth {:>3}, {} out of bounds, {:>6.1} s",
            found.states,
            found.steps,
            found.depth,
            found.out_of_bounds,
            begun_at.elapsed().as_secs_f64(),
        )?;
    }
    Ok(code)
}
