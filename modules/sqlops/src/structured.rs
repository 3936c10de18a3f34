//! Queries in JSON: values never become part of SQL.

use serde_json::Value as Json;
use tandem_db::{Cond, Name, Op, Order, Query, Select, Value, check_name, schema};
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;

use crate::answer::{Target, Wait};
use crate::params::Sql;

/// Columns or conditions of one query.
const ITEMS_MAX: usize = 256;

type Pairs = Vec<(Name, Json)>;

pub(crate) fn sql_select(call: &mut Call<'_, '_, '_>) -> Called {
    select(call, false)
}

pub(crate) fn sql_select_one(call: &mut Call<'_, '_, '_>) -> Called {
    select(call, true)
}

fn select(call: &mut Call<'_, '_, '_>, one: bool) -> Called {
    let built = (|| {
        Ok(Query::Select(Select {
            table: table(&call.text(1))?,
            columns: columns(&call.text(0))?,
            conds: filter(&call.text(2))?,
            order: order(&call.text(3))?,
            limit: one.then_some(1),
        }))
    })();
    let to = Target::of(call, 4);
    ask(call, built, 5, Wait::Rows { to, one, may_be_none: false })
}

pub(crate) fn sql_update(call: &mut Call<'_, '_, '_>) -> Called {
    let built = (|| {
        let (table, set) = (table(&call.text(1))?, row(&call.text(0))?);
        Ok(Query::Update { table, set, conds: filter(&call.text(2))? })
    })();
    ask(call, built, 3, Wait::Change)
}

pub(crate) fn sql_insert(call: &mut Call<'_, '_, '_>) -> Called {
    let built = (|| Ok(Query::Insert { table: table(&call.text(0))?, row: row(&call.text(1))? }))();
    ask(call, built, 2, Wait::Change)
}

pub(crate) fn sql_delete(call: &mut Call<'_, '_, '_>) -> Called {
    let built =
        (|| Ok(Query::Delete { table: table(&call.text(0))?, conds: filter(&call.text(1))? }))();
    ask(call, built, 2, Wait::Change)
}

pub(crate) fn sql_replace(call: &mut Call<'_, '_, '_>) -> Called {
    let built = (|| replace(table(&call.text(0))?, row(&call.text(1))?))();
    ask(call, built, 2, Wait::Change)
}

fn ask(
    call: &mut Call<'_, '_, '_>,
    built: Result<Query, String>,
    database: usize,
    wait: Wait,
) -> Called {
    let Some(state) = call.state::<Sql>() else { return Called::Returned(-1) };
    let query = match built {
        Ok(query) => query,
        Err(why) => return call.complain(Level::Error, why),
    };
    match state.database(call, database) {
        Some(database) => call.ask(database, query, wait),
        None => Called::Returned(-1),
    }
}

/// A row over the one with the same unique key.
fn replace(table: Name, row: Vec<(Name, Value)>) -> Result<Query, String> {
    let standard = schema::table(&table);
    let has = |column: &str| row.iter().any(|(name, _)| name == column);
    let key = standard.and_then(|t| t.unique_key(has));
    match key {
        Some(key) => {
            let (keys, set) = row.into_iter().partition(|(name, _)| key.iter().any(|k| k == name));
            Ok(Query::InsertOrUpdate { table, keys, set })
        }
        None => {
            let (column, value) = row.first().cloned().ok_or("there are no columns")?;
            let old = Query::Delete { table: table.clone(), conds: vec![Cond::eq(column, value)] };
            Ok(Query::Batch(vec![old, Query::Insert { table, row }]))
        }
    }
}

fn table(text: &[u8]) -> Result<Name, String> {
    name(&String::from_utf8_lossy(text))
}

fn name(text: &str) -> Result<Name, String> {
    check_name(text).map_err(|e| e.to_string())?;
    Ok(text.to_owned().into())
}

/// `["a","b"]`, or a text with commas; nothing is every column.
fn columns(text: &[u8]) -> Result<Vec<Name>, String> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    if !text.starts_with('[') {
        let names = text.split(',').map(str::trim).filter(|n| !n.is_empty() && *n != "*");
        return names.take(ITEMS_MAX).map(name).collect();
    }
    let names: Vec<String> = serde_json::from_str(text)
        .map_err(|e| format!("the columns are no JSON array of texts: {e}"))?;
    names.iter().take(ITEMS_MAX).map(|n| name(n)).collect()
}

/// `[{"a":1},{"b":2}]` or `{"a":1,"b":2}`.
fn pairs(text: &[u8]) -> Result<Pairs, String> {
    let json: Json =
        serde_json::from_slice(text).map_err(|e| format!("no JSON of columns and values: {e}"))?;
    let objects = match json {
        Json::Array(items) => items,
        object => vec![object],
    };
    let mut pairs = Pairs::new();
    for object in objects {
        let Json::Object(object) = object else {
            return Err("columns and values are written [{\"column\":\"value\"}]".into());
        };
        for (column, value) in object {
            pairs.push((name(&column)?, value));
        }
    }
    match pairs.len() {
        1..=ITEMS_MAX => Ok(pairs),
        _ => Err(format!("1 to {ITEMS_MAX} columns are wanted")),
    }
}

fn row(text: &[u8]) -> Result<Vec<(Name, Value)>, String> {
    pairs(text)?.into_iter().map(|(name, json)| Ok((name, value(&json)?))).collect()
}

fn filter(text: &[u8]) -> Result<Vec<Cond>, String> {
    if text.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let mut conds = Vec::new();
    for (column, json) in pairs(text)? {
        match json {
            Json::Object(tests) => {
                for (operator, json) in tests {
                    conds.push(Cond::new(column.clone(), op(&operator)?, value(&json)?));
                }
            }
            json => conds.push(Cond::new(column, Op::Eq, value(&json)?)),
        }
    }
    Ok(conds)
}

fn op(text: &str) -> Result<Op, String> {
    Ok(match text.trim() {
        "=" | "==" => Op::Eq,
        "!=" | "<>" => Op::Ne,
        "<" => Op::Lt,
        "<=" => Op::Le,
        ">" => Op::Gt,
        ">=" => Op::Ge,
        _ => return Err(format!("`{text}` is none of = != < <= > >=")),
    })
}

fn value(json: &Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Int(i64::from(*b)),
        Json::Number(n) => match n.as_i64() {
            Some(i) => Value::Int(i),
            None => Value::Float(n.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::Str(text.clone()),
        Json::Array(_) | Json::Object(_) => {
            return Err("a value is a text, a number or null".into());
        }
    })
}

/// `a`, `a desc`, with commas between several.
fn order(text: &[u8]) -> Result<Vec<Order>, String> {
    let text = String::from_utf8_lossy(text);
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items
        .take(ITEMS_MAX)
        .map(|item| {
            let (column, way) = item.split_once(char::is_whitespace).unwrap_or((item, "asc"));
            let descending = match way.trim().to_ascii_lowercase().as_str() {
                "asc" => false,
                "desc" => true,
                _ => return Err(format!("`{way}` is neither asc nor desc")),
            };
            Ok(Order { column: name(column)?, descending })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn conditions_have_operators_and_values_keep_their_type() {
        let read = filter(br#"[{"a":"x"},{"n":{">":5,"<=":7.5}},{"z":null}]"#).unwrap();
        let wanted = [
            Cond::eq("a", "x"),
            Cond::new("n", Op::Gt, 5),
            Cond::new("n", Op::Le, 7.5),
            Cond::new("z", Op::Eq, Value::Null),
        ];
        assert_eq!(read, wanted);
        for wrong in
            [&b"["[..], b"[]", b"[1]", b"{\"a b\":1}", b"{\"a\":[1]}", b"{\"a\":{\"~\":1}}"]
        {
            assert!(filter(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn columns_and_orders_are_lists_of_names() {
        assert_eq!(columns(br#"["a","b"]"#).unwrap(), ["a", "b"]);
        assert_eq!(columns(b"a, b").unwrap(), ["a", "b"]);
        assert!(columns(b"*").unwrap().is_empty() && columns(b"a; drop").is_err());
        assert_eq!(order(b"a desc, b").unwrap()[0], Order { column: "a".into(), descending: true });
        assert!(order(b"a up").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]{}\",:a-c0-9<> ]{0,30}") {
            let _ = (filter(text.as_bytes()), columns(text.as_bytes()), order(text.as_bytes()));
            let _ = row(text.as_bytes());
        }
    }
}
