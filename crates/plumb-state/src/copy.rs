//! What is of this host, copied from one state to another: from the file into the team's database, or back.

use crate::database::{Database, DatabaseError, Row, Value};
use crate::{State, StateError};

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Bytes,
}

/// Whose the rows of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Of the deployment that this column names.
    Deployment(&'static str),
}

/// A table that is copied, in an order in which each only refers to those before it. The host of a deployment is not
/// copied but set.
struct Table {
    name: &'static str,
    scope: Scope,
    columns: &'static [(&'static str, Kind)],
}

const TABLES: &[Table] = &[
    Table {
        name: "deployment",
        scope: Scope::Deployment("name"),
        columns: &[("name", Kind::Text), ("app", Kind::Text), ("current", Kind::Number)],
    },
    Table {
        name: "address",
        scope: Scope::Deployment("deployment"),
        columns: &[("deployment", Kind::Text), ("instance", Kind::Text), ("address", Kind::Text)],
    },
    Table {
        name: "plan",
        scope: Scope::Deployment("deployment"),
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
        scope: Scope::Deployment("deployment"),
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
        scope: Scope::Deployment("deployment"),
        columns: &[("deployment", Kind::Text), ("started_ms", Kind::Number)],
    },
    Table {
        name: "event",
        scope: Scope::Deployment("deployment"),
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
    },
    Table {
        name: "lease",
        scope: Scope::Deployment("deployment"),
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
        scope: Scope::Deployment("deployment"),
        columns: &[("deployment", Kind::Text), ("number", Kind::Number), ("document", Kind::Bytes)],
    },
    Table {
        name: "configured",
        scope: Scope::Deployment("deployment"),
        columns: &[("deployment", Kind::Text), ("wanted", Kind::Number), ("current", Kind::Number)],
    },
    Table {
        name: "secret",
        scope: Scope::Deployment("deployment"),
        columns: &[("deployment", Kind::Text), ("version", Kind::Text), ("sealed", Kind::Bytes)],
    },
];

/// Tables that say something about sessions, hosts, keys and owners, not about deployments: a team has its own quotas.
#[cfg(test)]
const NOT_COPIED: &[&str] = &["host", "holder", "clock", "quota", "recipient"];

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
    /// The rows of a host, sorted.
    fn rows(&self, database: &dyn Database, host: Option<&str>) -> Result<Vec<Vec<Owned>>, DatabaseError> {
        let columns: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let Scope::Deployment(deployment) = self.scope;
        let sql = format!(
            "SELECT {} FROM {} WHERE {deployment} IN
             (SELECT name FROM deployment WHERE host IS NULL OR host = $1)",
            columns.join(", "),
            self.name
        );
        let mut rows = Vec::new();
        database.query(&sql, &[host.into()], &mut |row| {
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

impl State {
    /// Copies everything of this host to `other` and reads it back before it counts. The result is how many rows that
    /// were. Nobody may change this state meanwhile.
    ///
    /// # Errors
    /// [`StateError::Taken`] if `other` has something of this host or a deployment of the same name;
    /// [`DatabaseError::Copy`] if what is read back differs. Nothing was changed then.
    pub fn copy_to(&self, other: &mut State) -> Result<u64, StateError> {
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
            }
            Ok(())
        })?;
        Ok(tables.iter().map(|(_, rows)| rows.len() as u64).sum())
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
    use std::collections::BTreeSet;

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
