//! Connections of modules to servers, each a task of the control thread.

use std::time::Duration;

use tandem_drivers::client::{Clients, Event, News};
use tandem_engine::client::{ClientAsk, ClientEvent, ClientNews};
use tandem_engine::effect::Input;

/// News that may wait; a connection waits when there are more.
pub(super) const NEWS_MAX: usize = 64;

/// Does what is asked; what came of it at once.
pub(super) fn carry_out(clients: &mut Clients, token: u64, ask: ClientAsk) -> Option<Input> {
    match ask {
        ClientAsk::Open { peer, timeout_ms } => {
            clients.open(token, peer, Duration::from_millis(timeout_ms));
        }
        ClientAsk::OpenDatagrams { peer, from } => clients.open_datagrams(token, peer, from),
        ClientAsk::Write(bytes) => {
            let refused = clients.write(token, bytes).err()?;
            return Some(input((token, Event::Closed(refused))));
        }
        ClientAsk::Close => clients.close(token),
    }
    None
}

/// What happened to one, for the node.
pub(super) fn input((token, event): News) -> Input {
    let event = match event {
        Event::Opened => ClientEvent::Opened,
        Event::Bytes(bytes) => ClientEvent::Bytes(bytes),
        Event::Closed(why) => ClientEvent::Closed(why),
    };
    Input::Client(ClientNews { token, event })
}
