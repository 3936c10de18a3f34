//! Preferences of users: AVPs in a table.

use bytes::Bytes;
use tandem_db::{Cond, Name, Query, Select, Value as Cell};
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_script::value::Value;
use tandem_sip::Uri;

use crate::answer::{Loading, Wait};
use crate::params::{Layout, Sql};

/// Values of one AVP that are stored.
const VALUES_MAX: usize = 1_000;

/// What a user's rows are found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Uri,
    Username,
    Domain,
    Uuid,
}

/// Which preferences an argument names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    /// `$avp(name)`
    One(Bytes),
    /// `a`
    All,
    /// `s`
    Texts,
    /// `i`
    Numbers,
}

/// Where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Standard,
    Table(String),
    Scheme(String),
}

/// Loads preferences into AVPs.
pub fn avp_load(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Sql>() else { return Called::Returned(-1) };
    let asked = match asked(call, &state) {
        Ok(asked) => asked,
        Err(why) => return call.complain(Level::Error, why),
    };
    let Some(database) = state.database(call, 2) else { return Called::Returned(-1) };
    let Asked { layout, scheme, which, mut conds, .. } = asked;
    let scheme = match (scheme, &which) {
        (false, _) => None,
        (true, Which::One(name)) => Some((name.clone(), layout.is_integer)),
        (true, _) => return call.complain(Level::Error, "a scheme needs the name of an AVP"),
    };
    let columns = match &scheme {
        Some(_) => vec![layout.value.clone()],
        None => {
            conds.extend(state.which(&which));
            vec![state.attribute.clone(), layout.value.clone(), state.kind.clone()]
        }
    };
    let select = Select { table: layout.table, columns, conds, ..Select::default() };
    let loading = Loading { prefix: call.text(3), scheme };
    call.ask(database, Query::Select(select), Wait::Preferences(loading))
}

/// Deletes preferences.
pub fn avp_delete(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Sql>() else { return Called::Returned(-1) };
    let asked = match asked(call, &state) {
        Ok(asked) => asked,
        Err(why) => return call.complain(Level::Error, why),
    };
    let Some(database) = state.database(call, 2) else { return Called::Returned(-1) };
    let Asked { layout, scheme, which, mut conds, .. } = asked;
    if !scheme {
        conds.extend(state.which(&which));
    }
    call.ask(database, Query::Delete { table: layout.table, conds }, Wait::Change)
}

/// Stores the values of an AVP, the oldest first.
pub fn avp_store(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Sql>() else { return Called::Returned(-1) };
    let asked = match asked(call, &state) {
        Ok(asked) => asked,
        Err(why) => return call.complain(Level::Error, why),
    };
    let Some(database) = state.database(call, 2) else { return Called::Returned(-1) };
    let Asked { layout, scheme, which, key, .. } = asked;
    let avps: Vec<(Bytes, Value)> = call
        .ctx
        .avps
        .iter()
        .filter(|(name, value)| match &which {
            Which::One(one) => *name == one,
            Which::All => true,
            Which::Texts => value.int().is_none(),
            Which::Numbers => value.int().is_some(),
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .take(VALUES_MAX)
        .collect();
    if avps.is_empty() {
        return Called::Returned(-1);
    }
    let rows = avps.into_iter().rev().map(|(name, value)| {
        let mut row = key.clone();
        let text = String::from_utf8_lossy(&value.text().unwrap_or_default()).into_owned();
        row.push((layout.value.clone(), Cell::Str(text)));
        if !scheme {
            let kind = if value.int().is_some() { 2 } else { 0 };
            row.push((state.attribute.clone(), (&*String::from_utf8_lossy(&name)).into()));
            row.push((state.kind.clone(), Cell::Int(kind)));
        }
        Query::Insert { table: layout.table.clone(), row }
    });
    call.ask(database, Query::Batch(rows.collect()), Wait::Change)
}

impl Sql {
    fn which(&self, which: &Which) -> Option<Cond> {
        match which {
            Which::One(name) => {
                Some(Cond::eq(self.attribute.clone(), &*String::from_utf8_lossy(name)))
            }
            Which::All => None,
            Which::Texts => Some(Cond::eq(self.kind.clone(), 0)),
            Which::Numbers => Some(Cond::eq(self.kind.clone(), 2)),
        }
    }
}

/// The arguments of a call, understood.
struct Asked {
    layout: Layout,
    /// Whether the layout is a scheme's, without names of attributes.
    scheme: bool,
    which: Which,
    /// Columns of the user's key.
    key: Vec<(Name, Cell)>,
    conds: Vec<Cond>,
}

fn asked(call: &mut Call<'_, '_, '_>, state: &Sql) -> Result<Asked, String> {
    let source = String::from_utf8_lossy(&call.text(0)).into_owned();
    let (var, by) = parse_source(&source)?;
    let value = call.expand(var.as_bytes())?;
    let name = String::from_utf8_lossy(&call.text(1)).into_owned();
    let (which, place) = parse_name(&name)?;
    let (layout, scheme) = match place {
        Place::Standard => (state.layout.clone(), false),
        Place::Table(table) => (Layout { table: table.into(), ..state.layout.clone() }, false),
        Place::Scheme(name) => {
            let scheme = state.schemes.get(&name).cloned();
            (scheme.ok_or_else(|| format!("there is no db_scheme `{name}`"))?, true)
        }
    };
    let key = key(state, &layout, &value, by)?;
    let conds = key.iter().map(|(name, value)| Cond::eq(name.clone(), value.clone())).collect();
    Ok(Asked { layout, scheme, which, key, conds })
}

fn key(state: &Sql, layout: &Layout, value: &[u8], by: By) -> Result<Vec<(Name, Cell)>, String> {
    let text = |bytes: &[u8]| Cell::Str(String::from_utf8_lossy(bytes).into_owned());
    if value.is_empty() || value == b"<null>" {
        return Err("the user to look for is empty".into());
    }
    if by == By::Uuid {
        return Ok(vec![(layout.uuid.clone(), text(value))]);
    }
    let uri = Uri::parse(value).ok();
    let user =
        || (layout.username.clone(), text(uri.as_ref().and_then(|u| u.user).unwrap_or(value)));
    let domain = || (layout.domain.clone(), text(uri.as_ref().map_or(value, |u| u.host)));
    Ok(match (by, &uri) {
        (By::Username, _) => vec![user()],
        (By::Domain, _) => vec![domain()],
        (_, None) => {
            let value = String::from_utf8_lossy(value);
            return Err(format!("`{value}` is not a URI: write /username, /domain or /uuid"));
        }
        (_, Some(_)) if state.use_domain => vec![user(), domain()],
        (_, Some(_)) => vec![user()],
    })
}

/// `$var[/username|domain|uri|uuid]`; without a word, an AVP is a uuid and the rest URIs.
fn parse_source(text: &str) -> Result<(&str, By), String> {
    let text = text.trim();
    let (var, by) = match text.rsplit_once('/') {
        Some((var, word)) if !word.contains(')') => (var, word.trim()),
        _ => (text, ""),
    };
    if !var.starts_with('$') {
        return Err("the user is named by a variable: \"$ru\", \"$fu/username\"".into());
    }
    let by = match by {
        "" if var.starts_with("$avp(") => By::Uuid,
        "" | "uri" => By::Uri,
        "username" => By::Username,
        "domain" => By::Domain,
        "uuid" => By::Uuid,
        other => return Err(format!("`{other}` is none of username, domain, uri and uuid")),
    };
    Ok((var, by))
}

/// `$avp(x)`, `a`, `s` or `i`, and a table or `$scheme` behind a slash.
fn parse_name(text: &str) -> Result<(Which, Place), String> {
    let text = text.trim();
    let (name, place) = match text.rsplit_once('/') {
        Some((name, place)) if !place.contains(')') => (name.trim(), place.trim()),
        _ => (text, ""),
    };
    let place = match place.strip_prefix('$') {
        Some(scheme) => Place::Scheme(scheme.to_owned()),
        None if place.is_empty() => Place::Standard,
        None => {
            tandem_db::check_name(place).map_err(|e| e.to_string())?;
            Place::Table(place.to_owned())
        }
    };
    let which = match name {
        "a" | "A" | "*" => Which::All,
        "s" | "S" => Which::Texts,
        "i" | "I" => Which::Numbers,
        _ => {
            let inner = name.strip_prefix("$avp(").and_then(|rest| rest.strip_suffix(')'));
            let inner = inner.filter(|name| !name.is_empty());
            let inner = inner.ok_or("preferences are named \"$avp(x)\", or \"a\" for all")?;
            Which::One(Bytes::copy_from_slice(inner.as_bytes()))
        }
    };
    Ok((which, place))
}

/// Judges a literal.
///
/// # Errors
/// What is wrong with it.
pub fn check_source(text: &str) -> Result<(), String> {
    parse_source(text).map(|_| ())
}

/// Judges a literal.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(text: &str) -> Result<(), String> {
    parse_name(text).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_a_user_and_preferences() {
        assert_eq!(parse_source("$ru"), Ok(("$ru", By::Uri)));
        assert_eq!(parse_source("$fu/username"), Ok(("$fu", By::Username)));
        assert_eq!(parse_source("$avp(id)"), Ok(("$avp(id)", By::Uuid)));
        assert!(parse_source("ru").is_err() && parse_source("$ru/x").is_err());
        let one = Which::One(Bytes::from_static(b"x"));
        assert_eq!(parse_name("$avp(x)"), Ok((one.clone(), Place::Standard)));
        assert_eq!(parse_name("$avp(x)/$s"), Ok((one, Place::Scheme("s".into()))));
        assert_eq!(parse_name("a/t"), Ok((Which::All, Place::Table("t".into()))));
        assert!(parse_name("x").is_err() && parse_name("$avp()").is_err());
    }
}
