//! Makes a fleet that was never built, for bench/plumbbench/affected.py.

use std::path::Path;

use anyhow::{Result, bail};
use testkit::fleet::{self, Fleet};

/// `HOME APPS RELEASES INSTANCES`; releases are those of each application. What is there stays.
pub fn run(arguments: &[String]) -> Result<()> {
    let [home, numbers @ ..] = arguments else { bail!("usage: xtask fleet HOME APPS RELEASES INSTANCES") };
    let numbers: Vec<u32> = numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
    let [apps, releases, instances] = numbers[..] else {
        bail!("usage: xtask fleet HOME APPS RELEASES INSTANCES")
    };
    let facts = fleet::make(Path::new(home), Fleet { apps, releases, instances })?;
    println!("{}", facts.len());
    Ok(())
}
