//! A client that writes rows without end, and knows which of them were acknowledged.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio_postgres::{Client, NoTls};

use crate::wait_until;

/// What a database may take to answer under emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(300);

/// Longest wait for one row: a connection whose other end is gone may never say so.
const ROW_LIMIT: Duration = Duration::from_secs(60);

/// What is written where.
#[derive(Debug, Clone)]
pub struct Table {
    /// Where the database is, as libpq writes it, without a timeout.
    pub address: String,
    /// Adds one row: `$1` is its number, a bigint.
    pub insert: &'static str,
    /// Pause after each row.
    pub pace: Duration,
    /// The numbers of all rows that were added, ascending, as bigint.
    pub select: &'static str,
}

/// Rows of one table. Numbers grow; one that was not acknowledged is given up.
#[derive(Debug)]
pub struct Rows {
    table: Table,
    acknowledged: Mutex<Vec<(i64, Instant)>>,
    /// Why the last conversation ended.
    ended: Mutex<String>,
    done: AtomicBool,
}

impl Rows {
    /// Of a table, none written.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Rows { table, acknowledged: Mutex::default(), ended: Mutex::default(), done: AtomicBool::new(false) }
    }

    /// One conversation; ends with the first failure.
    ///
    /// # Errors
    /// If the database does not answer in time, or as `what` says.
    pub fn talk<T>(&self, what: impl AsyncFnOnce(&Client) -> Result<T>) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let address = format!("{} connect_timeout=10", self.table.address);
        runtime.block_on(async {
            let limited = tokio::time::timeout(LIMIT, async {
                let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
                let driver = tokio::spawn(connection);
                let outcome = what(&client).await;
                driver.abort();
                outcome
            });
            limited.await.context("the database does not answer")?
        })
    }

    /// Writes row after row while `during` runs; a connection that ends is made anew.
    ///
    /// # Errors
    /// Those of `during`.
    pub fn write_during<T>(&self, during: impl FnOnce() -> Result<T>) -> Result<T> {
        std::thread::scope(|scope| {
            scope.spawn(|| self.write());
            let outcome = during();
            self.done.store(true, Ordering::Relaxed);
            outcome
        })
    }

    fn write(&self) {
        let mut next = 1_i64;
        while !self.done.load(Ordering::Relaxed) {
            // Whatever ends a conversation: the next one begins with another number.
            let outcome = self.talk(async |client| {
                let insert = client.prepare(self.table.insert).await?;
                while !self.done.load(Ordering::Relaxed) {
                    let number = next;
                    next += 1;
                    tokio::time::timeout(ROW_LIMIT, client.execute(&insert, &[&number])).await??;
                    self.lock().push((number, Instant::now()));
                    tokio::time::sleep(self.table.pace).await;
                }
                Ok(())
            });
            if let Err(error) = outcome {
                *self.ended.lock().expect("whoever holds it does not panic") = format!("{error:#}");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(i64, Instant)>> {
        self.acknowledged.lock().expect("whoever holds it does not panic")
    }

    /// The last one that was acknowledged; 0 before the first.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.lock().last().map_or(0, |(number, _)| *number)
    }

    /// How many were acknowledged.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Waits until another one is acknowledged.
    ///
    /// # Errors
    /// If none is in time.
    pub fn go_on(&self) -> Result<()> {
        let last = self.last();
        wait_until("another row is acknowledged", LIMIT, &mut || self.last() > last)
            .with_context(|| self.ended.lock().expect("whoever holds it does not panic").clone())
    }

    /// The numbers that are in the table.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn stored(&self) -> Result<Vec<i64>> {
        self.talk(async |client| {
            let rows = client.query(self.table.select, &[]).await?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        })
    }

    /// Every one that was acknowledged, up to number `last`, is in `stored`, which was read later.
    ///
    /// # Errors
    /// With the first that are not.
    pub fn ensure_held(&self, stored: &[i64], last: i64) -> Result<()> {
        let acknowledged = self.lock();
        let numbers = acknowledged.iter().map(|(number, _)| *number).filter(|number| *number <= last);
        let lost: Vec<i64> = numbers.filter(|number| stored.binary_search(number).is_err()).collect();
        ensure!(
            lost.is_empty(),
            "{} acknowledged rows are lost, of {last}: {:?}",
            lost.len(),
            &lost[..lost.len().min(5)]
        );
        Ok(())
    }

    /// Forgets those up to number `last` that are not in `stored`: somebody asked for older data.
    pub fn forget(&self, stored: &[i64], last: i64) {
        self.lock().retain(|(number, _)| *number > last || stored.binary_search(number).is_ok());
    }

    /// Longest time between two that were acknowledged since `began`.
    #[must_use]
    pub fn longest_pause(&self, began: Instant) -> Duration {
        let acknowledged = self.lock();
        let times: Vec<Instant> = acknowledged.iter().map(|(_, at)| *at).filter(|at| *at >= began).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}
