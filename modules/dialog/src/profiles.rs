//! Profiles as scripts and operators use them.

use std::collections::BTreeMap;

use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx};
use tandem_script::host::Called;
use tandem_script::value::Value;

use crate::change::Change;
use crate::index::Profile;
use crate::record::{Marker, Membership, Text};
use crate::state::Dialogs;
use crate::values::{NO, OK, change};

impl Dialogs {
    /// Members of a profile with a value, or all. In a profile that nodes share, dialogs of a tag
    /// that another node holds are counted there.
    pub(crate) fn profile_size(&self, cx: &mut Cx<'_>, at: usize, value: Option<&[u8]>) -> usize {
        if let Some(profile) = self.table.profiles.defs().get(at)
            && profile.marker == Marker::Cache
            && let Some(size) = self.shared_size(cx, profile, value)
        {
            return size;
        }
        let shared = self.shares(at);
        let node = std::sync::Arc::clone(cx.node);
        let counts = |tag: &[u8]| !shared || self.tag_counts(&node, tag);
        self.table.profiles.size(at, value, &counts) + self.elsewhere(cx.now, at, value)
    }

    /// Values with their counts, in order.
    pub(crate) fn profile_values(&self, cx: &Cx<'_>, at: usize) -> Vec<(Text, usize)> {
        let shared = self.shares(at);
        let counts = |tag: &[u8]| !shared || self.tag_counts(cx.node, tag);
        let mut all: BTreeMap<Text, usize> =
            self.table.profiles.values(at, &counts).into_iter().collect();
        for (value, count) in self.values_elsewhere(cx.now, at) {
            *all.entry(value).or_default() += count;
        }
        all.into_iter().collect()
    }

    fn shares(&self, at: usize) -> bool {
        self.table.profiles.defs().get(at).is_some_and(|p| p.marker == Marker::Bin)
    }

    /// A profile by its full name, and its place.
    pub(crate) fn profile(&self, full: &[u8]) -> Option<(usize, &Profile)> {
        let at = self.table.profiles.named(full)?;
        self.table.profiles.defs().get(at).map(|profile| (at, profile))
    }
}

/// Where a value goes in a profile.
///
/// # Errors
/// When the profile has values and there is none, or the other way round.
pub(crate) fn membership(profile: &Profile, value: Option<&[u8]>) -> Result<Membership, String> {
    let value = match (profile.has_value, value) {
        (true, Some(value)) => value.into(),
        (true, None) => return Err(format!("profile {} wants a value", profile.full_name())),
        // A value says nothing here.
        (false, _) => Text::default(),
    };
    Ok(Membership { name: profile.name.as_bytes().into(), value, marker: profile.marker })
}

/// The profile that the first argument names; complains if there is none.
fn named(call: &mut Call<'_, '_, '_>) -> Option<(std::sync::Arc<Dialogs>, usize)> {
    let dialogs = call.state::<Dialogs>()?;
    let name = call.text(0);
    match dialogs.profile(&name).map(|(at, _)| at) {
        Some(at) => Some((dialogs, at)),
        None => {
            let name = String::from_utf8_lossy(&name).into_owned();
            let all: Vec<String> =
                dialogs.table.profiles.defs().iter().map(Profile::full_name).collect();
            let near = tandem_script::nearest(&name, all.iter().map(String::as_str));
            let near = near.map(|n| format!(", did you mean \"{n}\"?")).unwrap_or_default();
            let text = format!("{}: there is no profile \"{name}\"{near}", call.site.name);
            call.complain(Level::Error, text);
            None
        }
    }
}

pub(crate) fn set_dlg_profile(call: &mut Call<'_, '_, '_>) -> Called {
    let Some((dialogs, at)) = named(call) else { return NO };
    let Some(profile) = dialogs.table.profiles.defs().get(at) else { return NO };
    let value = call.given(1).then(|| call.text(1));
    let alone = call.int(2).unwrap_or(0) != 0;
    match membership(profile, value.as_deref()) {
        Ok(membership) => change(call, Change::Join { membership, alone }),
        Err(why) => call.complain(Level::Error, format!("set_dlg_profile: {why}")),
    }
}

pub(crate) fn unset_dlg_profile(call: &mut Call<'_, '_, '_>) -> Called {
    let Some((dialogs, at)) = named(call) else { return NO };
    let Some(profile) = dialogs.table.profiles.defs().get(at) else { return NO };
    let name: Text = profile.name.as_bytes().into();
    let value = (profile.has_value && call.given(1)).then(|| Text::from(&call.text(1)[..]));
    let Some(current) = dialogs.current(call.ctx) else { return NO };
    let marker = profile.marker;
    let left = dialogs.change(call.cx, current.id, Change::Leave { name, marker, value });
    if left.is_ok_and(|done| done.changed) { OK } else { NO }
}

pub(crate) fn is_in_profile(call: &mut Call<'_, '_, '_>) -> Called {
    let Some((dialogs, at)) = named(call) else { return NO };
    let Some(profile) = dialogs.table.profiles.defs().get(at) else { return NO };
    let value = (profile.has_value && call.given(1)).then(|| call.text(1));
    let Some(current) = dialogs.current(call.ctx) else { return NO };
    let is_in = dialogs.read(current.id, |d| {
        d.profiles.iter().any(|p| {
            *p.name == *profile.name.as_bytes()
                && p.marker == profile.marker
                && value.as_deref().is_none_or(|v| *p.value == *v)
        })
    });
    if is_in == Some(true) { OK } else { NO }
}

pub(crate) fn get_profile_size(call: &mut Call<'_, '_, '_>) -> Called {
    let Some((dialogs, at)) = named(call) else { return NO };
    let has_value = dialogs.table.profiles.defs().get(at).is_some_and(|p| p.has_value);
    let value = (has_value && call.given(1)).then(|| call.text(1));
    let size = dialogs.profile_size(call.cx, at, value.as_deref());
    let size = Value::Int(i32::try_from(size).unwrap_or(i32::MAX));
    match call.set_var(2, size) {
        Ok(()) => OK,
        Err(why) => call.complain(Level::Error, format!("get_profile_size: {why}")),
    }
}
