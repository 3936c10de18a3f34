//! `ratelimit-pipe-repl`: counters of pipes. Version 1, as 3.3 and later write it.

use bytes::Bytes;

use crate::{ClusterId, Malformed, Reader, TooBig, Writer};

/// Name of the capability.
pub const CAPABILITY: &[u8] = b"ratelimit-pipe-repl";
/// The one version there is.
pub const VERSION: u16 = 1;
/// The packet type of counters.
pub const COUNTERS: u32 = 0;
/// Totals of a whole cluster, on their way over a bridge.
pub const BRIDGED_EDGE: u32 = 10;
/// The same, told on inside the cluster behind the bridge.
pub const BRIDGED_CORE: u32 = 11;
/// Bit of [`Pipe::flags`]: the pipe is replicated.
pub const REPLICATED: i32 = 1;
/// Pipes of one packet.
const PIPES_MAX: usize = 10_000;

/// One pipe as its node counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipe {
    /// Without the suffix.
    pub name: Bytes,
    pub flags: i32,
    /// 1 TAILDROP, 2 RED, 3 FEEDBACK, 4 NETWORK, 5 SBT.
    pub algorithm: i32,
    pub limit: i32,
    /// The node's own count.
    pub counter: i32,
}

/// Reads a payload of type 0.
///
/// # Errors
/// What is wrong with it.
pub fn decode(payload: &Bytes) -> Result<Vec<Pipe>, Malformed> {
    read(&mut Reader::new(payload.clone()))
}

/// Reads a payload of type 10 or 11: the cluster whose totals these are, and the totals.
///
/// # Errors
/// What is wrong with it.
pub fn decode_bridged(payload: &Bytes) -> Result<(ClusterId, Vec<Pipe>), Malformed> {
    let r = &mut Reader::new(payload.clone());
    Ok((r.uint("source cluster")?, read(r)?))
}

fn read(r: &mut Reader) -> Result<Vec<Pipe>, Malformed> {
    let mut pipes = Vec::new();
    while !r.is_empty() && pipes.len() < PIPES_MAX {
        pipes.push(Pipe {
            name: r.str("pipe")?,
            flags: r.int("flags")?,
            algorithm: r.int("algorithm")?,
            limit: r.int("limit")?,
            counter: r.int("counter")?,
        });
    }
    Ok(pipes)
}

/// The payload of type 0.
///
/// # Errors
/// When it is larger than a packet.
pub fn encode(pipes: &[Pipe]) -> Result<Bytes, TooBig> {
    let mut w = Writer::payload();
    write(&mut w, pipes);
    w.finish()
}

/// The payload of type 10 or 11.
///
/// # Errors
/// When it is larger than a packet.
pub fn encode_bridged(cluster: ClusterId, pipes: &[Pipe]) -> Result<Bytes, TooBig> {
    let mut w = Writer::payload();
    w.uint(cluster);
    write(&mut w, pipes);
    w.finish()
}

fn write(w: &mut Writer, pipes: &[Pipe]) {
    for pipe in pipes {
        w.str(&pipe.name);
        for number in [pipe.flags, pipe.algorithm, pipe.limit, pipe.counter] {
            w.int(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pipes_survive(
            names in proptest::collection::vec("[a-z]{1,9}", 0..5), n in any::<i32>()
        ) {
            let pipe = |name: String| Pipe {
                name: name.into(), flags: REPLICATED, algorithm: 1, limit: n, counter: n,
            };
            let pipes: Vec<Pipe> = names.into_iter().map(pipe).collect();
            prop_assert_eq!(decode(&encode(&pipes).unwrap()).unwrap(), pipes);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let bytes = Bytes::from(bytes);
            let _ = decode(&bytes);
            let _ = decode_bridged(&bytes);
        }
    }
}
