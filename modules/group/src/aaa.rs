//! Groups of a RADIUS server: it is asked for the user, with the group and the type of service
//! Group-Check, and accepts whoever is in it.

use std::sync::Arc;

use tandem_aaa_radius::{AaaRadius, Asker, DoorId, Kind, Outcome, keep};
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, Cx, Timer};
use tandem_script::host::Called;

use crate::state::Group;
use crate::user_of;

/// Where the dictionary does not name it.
const GROUP_CHECK: &[u8] = b"12";

/// The servers.
pub(crate) struct Radius {
    module: Arc<AaaRadius>,
    door: DoorId,
}

impl Radius {
    pub(crate) fn build(build: &Build<'_>) -> Result<Option<Self>, BuildError> {
        let Some((module, door)) = AaaRadius::wanted(build, "aaa_url")? else {
            if build.program.calls(build.slot, "aaa_is_user_in") {
                return Err(BuildError::new("aaa_url", "aaa_is_user_in() needs a RADIUS server")
                    .help("set aaa_url of group: \"radius:/etc/radcli/radiusclient.conf\""));
            }
            return Ok(None);
        };
        module.need(door, "aaa_is_user_in() of group", &["User-Name", "Sip-Group", "Service-Type"]);
        Ok(Some(Self { module, door }))
    }

    /// A server has answered, or none.
    pub(crate) fn answered(&self, cx: &mut Cx<'_>, timer: Timer) {
        let Some((run, outcome)) = self.module.take(timer.id) else { return };
        let (code, avps) = match outcome {
            Outcome::Accepted(avps) => (1, avps),
            Outcome::Rejected(avps) => (-1, avps),
            Outcome::Failed(why) => {
                // That a server is silent was said once already.
                cx.log(Level::Debug, format!("group: nobody says who is in a group: {why}"));
                (-1, Vec::new())
            }
        };
        if let Some(dictionary) = self.module.dictionary(self.door) {
            cx.with_suspended(run, |ctx| keep(&dictionary, &avps, ctx));
        }
        cx.resume(run, code);
    }
}

pub(crate) fn aaa_is_user_in(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Group>() else { return Called::Returned(-1) };
    let Some(Radius { module, door }) = &state.radius else { return Called::Returned(-1) };
    let Some((user, domain)) = user_of(call) else {
        return call.complain(Level::Warning, "no user is there to look for");
    };
    let name = if state.use_domain { [&user[..], b"@", &domain].concat() } else { user };
    let avp = |name, text: &[u8]| module.avp(*door, name, text);
    let service = avp("Service-Type", b"Group-Check").or_else(|_| avp("Service-Type", GROUP_CHECK));
    let asked = [avp("User-Name", &name), avp("Sip-Group", &call.text(1)), service];
    let asked = match asked.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(asked) => asked,
        Err(why) => return call.complain(Level::Error, why),
    };
    let run = call.suspend();
    let asker = Asker { slot: call.cx.slot, timer: 0 };
    module.ask(call.cx, *door, (Kind::Auth, asked), (asker, run));
    Called::Suspended
}
