//! What modules keep on disk until a database has it.

use bytes::Bytes;
use tandem_drivers::spool::{Spool, sync};
use tandem_engine::effect::{Input, SpoolAnswer, SpoolAsk};
use tokio::sync::mpsc;

/// Does what is asked. What takes long is done elsewhere and told through `done`; then there is
/// no answer yet.
pub(super) fn carry_out(
    spool: &mut Spool,
    token: u64,
    ask: SpoolAsk,
    done: &mpsc::Sender<Input>,
) -> Option<Input> {
    let folder = spool.folder().to_owned();
    let place = |what: &str| format!("{}: {what}", folder.display());
    let result = match ask {
        SpoolAsk::Append { name, bytes, durable } => {
            match spool.append(&name, &bytes).and_then(|file| file.try_clone()) {
                Ok(file) if durable => {
                    let (done, folder) = (done.clone(), folder.clone());
                    tokio::task::spawn_blocking(move || {
                        let cannot = |e| format!("{}: {e}", folder.display());
                        let synced = sync(&file, &folder).map_err(cannot);
                        let result = synced.map(|()| SpoolAnswer::Done);
                        // Nobody waits for it when the node ends.
                        let _ = done.blocking_send(Input::Spool { token, result });
                    });
                    return None;
                }
                appended => appended.map(|_| SpoolAnswer::Done),
            }
        }
        SpoolAsk::Read { name } => {
            spool.read(&name).map(|bytes| SpoolAnswer::Bytes(bytes.map(Bytes::from)))
        }
        SpoolAsk::Remove { name } => spool.remove(&name).map(|()| SpoolAnswer::Done),
        SpoolAsk::List => spool.names().map(SpoolAnswer::Names),
    };
    let result = result.map_err(|e| place(&e.to_string()));
    Some(Input::Spool { token, result })
}
