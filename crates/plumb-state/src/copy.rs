//! What is of this host, copied from one state to another: from the file into the team's database, or back.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::{Database, DatabaseError, Row, Value};
use crate::event::KEPT;
use crate::{State, StateError};

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Bytes,
}

/// A table that is copied, in an order in which each only refers to those before it. The host of a deployment is not
/// copied but set.
struct Table {
    name: &'static str,
    /// The column that names the deployment, or what else a row is about.
    key: &'static str,
    columns: &'static [(&'static str, Kind)],
}

const TABLES: &[Table] = &[
    Table {
        name: "deployment",
        key: "name",
        columns: &[
            ("name", Kind::Text),
            ("app", Kind::Text),
            ("current", Kind::Number),
            ("side", Kind::Text),
            ("kept", Kind::Number),
            ("kept_until_ms", Kind::Number),
        ],
    },
    Table {
        name: "address",
        key: "deployment",
        columns: &[("deployment", Kind::Text), ("instance", Kind::Text), ("address", Kind::Text)],
    },
    Table {
        name: "plan",
        key: "deployment",
        columns: &[
            ("deployment", Kind::Text),
            ("generation", Kind::Number),
            ("document", Kind::Bytes),
            ("status", Kind::Text),
            ("reason", Kind::Text),
            ("started_ms", Kind::Number),
            ("ended_ms", Kind::Number),
        ],
    },
    Table {
        name: "step",
        key: "deployment",
        columns: &[
            ("deployment", Kind::Text),
            ("generation", Kind::Number),
            ("seq", Kind::Number),
            ("status", Kind::Text),
            ("at_ms", Kind::Number),
        ],
    },
    Table {
        name: "test",
        key: "deployment",
        columns: &[("deployment", Kind::Text), ("started_ms", Kind::Number)],
    },
    Table {
        name: "lease",
        key: "deployment",
        columns: &[
            ("deployment", Kind::Text),
            ("owner", Kind::Text),
            ("purpose", Kind::Text),
            ("run_for_ms", Kind::Number),
            ("renewed_ms", Kind::Number),
            ("keep_for_ms", Kind::Number),
            ("stopped_ms", Kind::Number),
            ("noticed_ms", Kind::Number),
            ("instances", Kind::Number),
            ("memory_mib", Kind::Number),
            ("disk_bytes", Kind::Number),
        ],
    },
    Table {
        name: "configuration",
        key: "deployment",
        columns: &[("deployment", Kind::Text), ("number", Kind::Number), ("document", Kind::Bytes)],
    },
    Table {
        name: "configured",
        key: "deployment",
        columns: &[("deployment", Kind::Text), ("wanted", Kind::Number), ("current", Kind::Number)],
    },
    Table {
        name: "secret",
        key: "deployment",
        columns: &[("deployment", Kind::Text), ("version", Kind::Text), ("sealed", Kind::Bytes)],
    },
];

/// What happened. Rows of deployments that are gone are copied, too.
const JOURNAL: Table = Table {
    name: "event",
    key: "deployment",
    columns: &[
        ("deployment", Kind::Text),
        ("seq", Kind::Number),
        ("at_ms", Kind::Number),
        ("kind", Kind::Text),
        ("instance", Kind::Text),
        ("generation", Kind::Number),
        ("text", Kind::Text),
        ("by_whom", Kind::Text),
    ],
};

/// What is of the state as a whole: what another has already stays as it is there.
const QUOTAS: Table = Table {
    name: "quota",
    key: "owner",
    columns: &[
        ("owner", Kind::Text),
        ("instances", Kind::Number),
        ("memory_mib", Kind::Number),
        ("disk_bytes", Kind::Number),
    ],
};

/// For whom secrets are sealed. Copied to where there is nobody yet: who seals for a team is the team's decision.
const RECIPIENTS: Table = Table {
    name: "recipient",
    key: "recipient",
    columns: &[("recipient", Kind::Text), ("name", Kind::Text)],
};

/// Tables that are made by who works there: sessions, and hosts with their clocks.
#[cfg(test)]
const NOT_COPIED: &[&str] = &["host", "holder", "clock"];

/// What came of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// Rows that are there now, all read back.
    pub rows: u64,
    /// Deployments that are gone here, and whose name another host has there: their journals were not mixed.
    pub journals_left: Vec<String>,
    /// Owners who may have something else there, which was not changed.
    pub quotas_left: Vec<String>,
}

/// A value that was read. Ordered, so that rows can be compared whatever order a database has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owned {
    Number(Option<u64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Owned::Number(number) => (*number).into(),
            Owned::Text(text) => text.as_deref().into(),
            Owned::Bytes(bytes) => Value::Bytes(bytes.as_deref()),
        }
    }
}

impl Table {
    /// The rows of the deployments of a host, sorted.
    fn rows(&self, database: &dyn Database, host: Option<&str>) -> Result<Vec<Vec<Owned>>, DatabaseError> {
        let which = format!("{} IN (SELECT name FROM deployment WHERE host IS NULL OR host = $1)", self.key);
        self.rows_where(database, &which, host.into())
    }

    /// The rows for which `which` holds, sorted.
    fn rows_where(
        &self,
        database: &dyn Database,
        which: &str,
        value: Value<'_>,
    ) -> Result<Vec<Vec<Owned>>, DatabaseError> {
        let columns: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let sql = format!("SELECT {} FROM {} WHERE {which}", columns.join(", "), self.name);
        let mut rows = Vec::new();
        database.query(&sql, &[value], &mut |row| {
            rows.push(self.read(row)?);
            Ok(())
        })?;
        rows.sort();
        Ok(rows)
    }

    fn read(&self, row: &Row<'_>) -> Result<Vec<Owned>, DatabaseError> {
        let read = |(column, (_, kind)): (usize, &(&str, Kind))| {
            Ok(match kind {
                Kind::Number => Owned::Number(row.number_or_none(column)?),
                Kind::Text => Owned::Text(row.text_or_none(column)?.map(str::to_owned)),
                Kind::Bytes => Owned::Bytes(row.bytes_or_none(column)?.map(<[u8]>::to_vec)),
            })
        };
        self.columns.iter().enumerate().map(read).collect()
    }

    fn write(&self, database: &dyn Database, row: &[Owned]) -> Result<(), DatabaseError> {
        let columns: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let places: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
        let sql =
            format!("INSERT INTO {} ({}) VALUES ({})", self.name, columns.join(", "), places.join(", "));
        let values: Vec<Value<'_>> = row.iter().map(Owned::value).collect();
        database.execute(&sql, &values).map(|_| ())
    }
}

/// What is bound to no deployment that there is.
struct Rest {
    /// By deployment, also of those that are gone.
    journals: BTreeMap<String, Vec<Vec<Owned>>>,
    quotas: Vec<Vec<Owned>>,
    recipients: Vec<Vec<Owned>>,
    clock_ms: Option<u64>,
}

/// A condition that every row meets.
const ALL: &str = "$1 = ''";

/// Where the time and the number of an event stand in a row of [`JOURNAL`].
const SEQ: usize = 1;
const AT: usize = 2;

/// Two journals of one name, in the order of time and numbered anew; what stands in both stands there once.
fn merged(theirs: Vec<Vec<Owned>>, mut ours: Vec<Vec<Owned>>) -> Vec<Vec<Owned>> {
    if theirs.is_empty() {
        return ours;
    }
    let known: BTreeSet<&[Owned]> = theirs.iter().map(|row| &row[AT..]).collect();
    ours.retain(|row| !known.contains(&row[AT..]));
    let mut all = [theirs, ours].concat();
    all.sort_by(|one, other| (&one[AT], &one[SEQ]).cmp(&(&other[AT], &other[SEQ])));
    let too_many = all.len().saturating_sub(usize::try_from(KEPT).unwrap_or(usize::MAX));
    all.drain(..too_many);
    for (number, row) in all.iter_mut().enumerate() {
        row[SEQ] = Owned::Number(Some(number as u64 + 1));
    }
    all.sort();
    all
}

impl State {
    /// Copies everything of this host to `other` and reads it back before it counts: its deployments, the journals of those
    /// that are gone, and what is of the state as a whole. Nobody may change this state meanwhile.
    ///
    /// # Errors
    /// [`StateError::Taken`] if `other` has something of this host or a deployment of the same name;
    /// [`DatabaseError::Copy`] if what is read back differs. Nothing was changed then.
    pub fn copy_to(&self, other: &mut State) -> Result<Copied, StateError> {
        let theirs = other.deployments()?;
        let own = self.own()?;
        let taken = theirs.iter().find(|one| one.elsewhere.is_none() || own.contains(&one.name));
        if let Some(taken) = taken {
            return Err(StateError::Taken { place: other.place.clone(), deployment: taken.name.clone() });
        }
        let mut tables = Vec::new();
        for table in TABLES {
            tables.push((table, table.rows(&*self.database, self.host_id()).map_err(self.failed("read"))?));
        }
        let mut rest = self.rest()?;
        let is_theirs = |name: &String| theirs.iter().any(|one| one.name.as_str() == name);
        let journals_left: Vec<String> =
            rest.journals.keys().filter(|name| is_theirs(name)).cloned().collect();
        rest.journals.retain(|name, _| !is_theirs(name));
        let mut copied = Copied { journals_left, ..Copied::default() };
        other.transaction(|database| {
            other.insert_host(database)?;
            for (table, rows) in &tables {
                for row in rows {
                    table.write(database, row)?;
                }
                if table.name == "deployment" {
                    other.adopt(database)?;
                }
            }
            for (table, rows) in &tables {
                if table.rows(database, other.host_id())? != *rows {
                    return Err(DatabaseError::Copy { table: table.name });
                }
                copied.rows += rows.len() as u64;
            }
            other.add_rest(database, &rest, &mut copied)
        })?;
        Ok(copied)
    }

    /// What is bound to no deployment that there is.
    fn rest(&self) -> Result<Rest, StateError> {
        let read = |table: &Table, which: &str, value: Value<'_>| {
            table.rows_where(&*self.database, which, value).map_err(self.failed("read"))
        };
        let which = "deployment NOT IN (SELECT name FROM deployment WHERE host IS NOT NULL AND host <> $1)";
        let mut journals: BTreeMap<String, Vec<Vec<Owned>>> = BTreeMap::new();
        for row in read(&JOURNAL, which, self.host_id().into())? {
            if let Some(Owned::Text(Some(name))) = row.first() {
                journals.entry(name.clone()).or_default().push(row);
            }
        }
        Ok(Rest {
            journals,
            quotas: read(&QUOTAS, ALL, "".into())?,
            recipients: read(&RECIPIENTS, ALL, "".into())?,
            clock_ms: self.clock_seen()?,
        })
    }

    /// Adds what is bound to no deployment to what is there of it.
    fn add_rest(
        &self,
        database: &dyn Database,
        rest: &Rest,
        copied: &mut Copied,
    ) -> Result<(), DatabaseError> {
        for (name, rows) in &rest.journals {
            let theirs = JOURNAL.rows_where(database, "deployment = $1", name.as_str().into())?;
            let all = merged(theirs, rows.clone());
            database.execute("DELETE FROM event WHERE deployment = $1", &[name.as_str().into()])?;
            for row in &all {
                JOURNAL.write(database, row)?;
            }
            if JOURNAL.rows_where(database, "deployment = $1", name.as_str().into())? != all {
                return Err(DatabaseError::Copy { table: JOURNAL.name });
            }
            copied.rows += rows.len() as u64;
        }
        for quota in &rest.quotas {
            let [Owned::Text(Some(owner)), ..] = quota.as_slice() else { continue };
            let theirs = QUOTAS.rows_where(database, "owner = $1", owner.as_str().into())?;
            match theirs.first() {
                None => QUOTAS.write(database, quota)?,
                Some(theirs) if theirs != quota => {
                    copied.quotas_left.push(owner.clone());
                    continue;
                }
                Some(_) => {}
            }
            copied.rows += 1;
        }
        if RECIPIENTS.rows_where(database, ALL, "".into())?.is_empty() {
            for recipient in &rest.recipients {
                RECIPIENTS.write(database, recipient)?;
                copied.rows += 1;
            }
        }
        if let Some(seen_ms) = rest.clock_ms {
            crate::lease::see_clock(database, self.host_id().unwrap_or_default(), seen_ms)?;
        }
        Ok(())
    }

    /// Names of the deployments of this host.
    fn own(&self) -> Result<Vec<plumb_model::DeploymentName>, StateError> {
        let own = self.deployments()?.into_iter().filter(|one| one.elsewhere.is_none());
        Ok(own.map(|one| one.name).collect())
    }

    /// What was just written and is of no host is of this one.
    fn adopt(&self, database: &dyn Database) -> Result<(), DatabaseError> {
        database.execute("UPDATE deployment SET host = $1 WHERE host IS NULL", &[self.host_id().into()])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_every_table_is_copied_or_named_as_one_that_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db");
        let state = State::open(&path).expect("opens");
        let all = state
            .rows(
                "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'",
                &[],
                |row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned())),
            )
            .expect("reads");
        let left: Vec<_> = all
            .iter()
            .filter(|(table, column)| {
                !NOT_COPIED.contains(&table.as_str()) && (table != "deployment" || column != "host")
            })
            .collect();
        let copied: BTreeSet<(String, String)> = TABLES
            .iter()
            .chain([&JOURNAL, &QUOTAS, &RECIPIENTS])
            .flat_map(|table| {
                table.columns.iter().map(|(column, _)| (table.name.to_owned(), (*column).to_owned()))
            })
            .collect();
        assert_eq!(
            left.into_iter().cloned().collect::<BTreeSet<_>>(),
            copied,
            "name new tables and columns in TABLES"
        );
    }
}
