//! The standard tables (release 4.0) as data, and the statements that create them.

use std::sync::OnceLock;

use crate::{Affinity, Backend, DbError, Dialect, Query};

/// One standard table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub name: String,
    /// The group of tables it is created with, such as `usrloc`.
    pub group: String,
    /// What the `version` table says about it.
    pub version: i64,
    pub columns: Vec<Column>,
    pub keys: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    /// The declared type for SQLite, MySQL and PostgreSQL.
    pub types: [String; 3],
    /// Characters, bytes or digits, as the type says; 0 when it says nothing.
    pub size: u32,
    pub nullable: bool,
    pub default: ColumnDefault,
    pub primary_key: bool,
    pub auto_increment: bool,
}

/// What a row gets for a column that an insert does not name.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnDefault {
    /// There is none: NULL, which a NOT NULL column refuses.
    None,
    Null,
    Int(i64),
    Float(f64),
    Str(String),
}

/// An index over some columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub unique: bool,
    pub columns: Vec<String>,
}

/// All standard tables, in the order of their groups.
pub fn tables() -> &'static [Table] {
    // Constant data, read once: no state of a node.
    static TABLES: OnceLock<Vec<Table>> = OnceLock::new();
    TABLES.get_or_init(|| parse(include_str!("schema/standard.txt")).unwrap_or_default())
}

/// The standard table of this name.
pub fn table(name: &str) -> Option<&'static Table> {
    tables().iter().find(|table| table.name == name)
}

/// The statements that create what is missing of these tables, with their rows in the `version`
/// table (created first). Running them again changes nothing.
pub fn create_statements(dialect: Dialect, wanted: &[&Table]) -> Result<Vec<String>, DbError> {
    let mut statements = Vec::new();
    let version = table("version").filter(|_| !wanted.iter().any(|t| t.name == "version"));
    for table in version.into_iter().chain(wanted.iter().copied()) {
        statements.push(create_table(dialect, table)?);
        // MySQL has no CREATE INDEX IF NOT EXISTS: its keys are part of the table.
        if dialect.backend != Backend::MySql {
            for key in table.keys.iter().filter(|key| !key.unique) {
                statements.push(create_index(dialect, table, key)?);
            }
        }
    }
    for table in wanted.iter().filter(|table| table.name != "version") {
        statements.push(version_row(dialect, table)?);
    }
    Ok(statements)
}

/// [`create_statements`] as one transaction.
pub fn create_query(dialect: Dialect, wanted: &[&Table]) -> Result<Query, DbError> {
    let statements = create_statements(dialect, wanted)?;
    Ok(Query::Batch(statements.into_iter().map(|sql| Query::Raw { sql }).collect()))
}

impl Table {
    /// The primary key, else a unique key, whose columns are all there.
    pub fn unique_key(&self, has: impl Fn(&str) -> bool) -> Option<Vec<&str>> {
        let primary = self.columns.iter().filter(|c| c.primary_key).map(|c| c.name.as_str());
        let unique = self.keys.iter().filter(|key| key.unique);
        let unique = unique.map(|key| key.columns.iter().map(String::as_str).collect());
        let mut keys = std::iter::once(primary.collect::<Vec<_>>()).chain(unique);
        keys.find(|key| !key.is_empty() && key.iter().all(|column| has(column)))
    }
}

impl Column {
    /// The declared type in this dialect.
    pub fn declared(&self, backend: Backend) -> &str {
        let [sqlite, mysql, postgres] = &self.types;
        match backend {
            Backend::Sqlite => sqlite,
            Backend::MySql => mysql,
            Backend::Postgres => postgres,
        }
    }

    /// How SQLite converts values of this column.
    pub fn affinity(&self) -> Affinity {
        Affinity::of_type(self.declared(Backend::Sqlite))
    }
}

fn create_table(dialect: Dialect, table: &Table) -> Result<String, DbError> {
    let mut parts = Vec::with_capacity(table.columns.len() + table.keys.len());
    for column in &table.columns {
        parts.push(column_definition(dialect, column)?);
    }
    for key in &table.keys {
        let columns = column_list(dialect, &key.columns)?;
        if key.unique {
            let name = dialect.quoted(&index_name(dialect, table, key))?;
            parts.push(format!("CONSTRAINT {name} UNIQUE ({columns})"));
        } else if dialect.backend == Backend::MySql {
            parts.push(format!("KEY {} ({columns})", dialect.quoted(&key.name)?));
        }
    }
    let name = dialect.quoted(&table.name)?;
    Ok(format!("CREATE TABLE IF NOT EXISTS {name} (\n    {}\n)", parts.join(",\n    ")))
}

fn column_definition(dialect: Dialect, column: &Column) -> Result<String, DbError> {
    let mut text =
        format!("{} {}", dialect.quoted(&column.name)?, column.declared(dialect.backend));
    if column.primary_key {
        text.push_str(" PRIMARY KEY");
    }
    if column.auto_increment {
        text.push_str(match dialect.backend {
            Backend::Sqlite => " AUTOINCREMENT",
            Backend::MySql => " AUTO_INCREMENT",
            // Its type is SERIAL.
            Backend::Postgres => "",
        });
    }
    match &column.default {
        ColumnDefault::None => {}
        ColumnDefault::Null => text.push_str(" DEFAULT NULL"),
        ColumnDefault::Int(i) => text.push_str(&format!(" DEFAULT {i}")),
        ColumnDefault::Float(f) => text.push_str(&format!(" DEFAULT {f:?}")),
        ColumnDefault::Str(s) => text.push_str(&format!(" DEFAULT '{}'", s.replace('\'', "''"))),
    }
    if !column.nullable {
        text.push_str(" NOT NULL");
    }
    Ok(text)
}

fn create_index(dialect: Dialect, table: &Table, key: &Key) -> Result<String, DbError> {
    Ok(format!(
        "CREATE INDEX IF NOT EXISTS {} ON {} ({})",
        dialect.quoted(&index_name(dialect, table, key))?,
        dialect.quoted(&table.name)?,
        column_list(dialect, &key.columns)?
    ))
}

/// SQLite and PostgreSQL have one name space for all indexes, so they carry the table's name.
fn index_name(dialect: Dialect, table: &Table, key: &Key) -> String {
    match dialect.backend {
        Backend::MySql => key.name.clone(),
        _ => format!("{}_{}", table.name, key.name),
    }
}

fn column_list(dialect: Dialect, columns: &[String]) -> Result<String, DbError> {
    let quoted: Result<Vec<_>, _> = columns.iter().map(|name| dialect.quoted(name)).collect();
    Ok(quoted?.join(", "))
}

fn version_row(dialect: Dialect, table: &Table) -> Result<String, DbError> {
    let (verb, tail) = match dialect.backend {
        Backend::Sqlite => ("INSERT OR IGNORE INTO", ""),
        Backend::MySql => ("INSERT IGNORE INTO", ""),
        Backend::Postgres => ("INSERT INTO", " ON CONFLICT DO NOTHING"),
    };
    crate::check_name(&table.name)?;
    Ok(format!(
        "{verb} {} ({}, {}) VALUES ('{}', {}){tail}",
        dialect.quoted("version")?,
        dialect.quoted("table_name")?,
        dialect.quoted("table_version")?,
        table.name,
        table.version
    ))
}

/// Reads the compact form; None when a line is not what its head says. The one file there is is
/// part of the crate and a test reads it.
fn parse(text: &str) -> Option<Vec<Table>> {
    let mut types: Vec<[String; 3]> = Vec::new();
    let mut tables: Vec<Table> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["type", sqlite, mysql, postgres] => {
                types.push([*sqlite, *mysql, *postgres].map(str::to_owned));
            }
            ["table", name, group, version] => tables.push(Table {
                name: (*name).to_owned(),
                group: (*group).to_owned(),
                version: version.parse().ok()?,
                columns: Vec::new(),
                keys: Vec::new(),
            }),
            ["col", name, type_number, flags, size, default] => {
                tables.last_mut()?.columns.push(Column {
                    name: (*name).to_owned(),
                    types: types.get(type_number.parse::<usize>().ok()?)?.clone(),
                    size: size.parse().ok()?,
                    nullable: !flags.contains('n'),
                    default: parse_default(default)?,
                    primary_key: flags.contains('p'),
                    auto_increment: flags.contains('a'),
                });
            }
            ["key", name, unique, columns] => tables.last_mut()?.keys.push(Key {
                name: (*name).to_owned(),
                unique: *unique == "u",
                columns: columns.split(',').map(str::to_owned).collect(),
            }),
            _ => return None,
        }
    }
    Some(tables)
}

fn parse_default(text: &str) -> Option<ColumnDefault> {
    Some(match text {
        "-" => ColumnDefault::None,
        "null" => ColumnDefault::Null,
        _ => match text.split_at_checked(1)? {
            ("i", value) => ColumnDefault::Int(value.parse().ok()?),
            ("f", value) => ColumnDefault::Float(value.parse().ok()?),
            ("s", value) => ColumnDefault::Str(value.to_owned()),
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_standard_tables_are_all_there() {
        assert_eq!(tables().len(), 75);
        assert_eq!(tables().iter().map(|t| t.columns.len()).sum::<usize>(), 746);
        let location = table("location").expect("location");
        assert_eq!((location.version, location.columns.len()), (1013, 19));
        let q = location.columns.iter().find(|c| c.name == "q").expect("q");
        assert_eq!((q.affinity(), &q.default), (Affinity::Real, &ColumnDefault::Float(1.0)));
    }

    #[test]
    fn every_key_names_columns_of_its_table() {
        for table in tables() {
            for name in table.keys.iter().flat_map(|key| &key.columns) {
                assert!(table.columns.iter().any(|c| &c.name == name), "{} {name}", table.name);
            }
        }
    }

    #[test]
    fn a_table_is_created_with_its_keys_and_its_version() {
        let domain = table("domain").expect("domain");
        let statements = create_statements(Dialect::SQLITE, &[domain]).expect("statements");
        assert!(statements[0].starts_with("CREATE TABLE IF NOT EXISTS `version`"));
        assert!(statements[1].contains("`id` INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL"));
        assert!(statements[1].contains("CONSTRAINT `domain_domain_idx` UNIQUE (`domain`)"));
        assert_eq!(
            statements.last().map(String::as_str),
            Some(
                "INSERT OR IGNORE INTO `version` (`table_name`, `table_version`) \
                 VALUES ('domain', 4)"
            )
        );
    }

    proptest! {
        #[test]
        fn a_broken_file_is_refused_without_a_panic(
            text in "(type|table|col|key|\t|p|i1|\n|x|9){0,30}",
        ) {
            let _ = parse(&text);
        }
    }
}
