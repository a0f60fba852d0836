//! The channels of the pair: the bundled runtime's, which serves threads and coroutines from one source and only waits
//! differently for either, and the standard library's, which only threads can wait in.

use super::{Channel, Ends};
use std::sync::mpsc;
use switchmark_runtime::chan;

/// The bundled runtime's channel.
#[derive(Debug, Clone, Copy)]
pub struct Own;

impl Channel for Own {
    type Sender = chan::Sender<u64>;
    type Receiver = chan::Receiver<u64>;

    fn open(capacity: usize, senders: usize, receivers: usize) -> Result<Ends<Own>, String> {
        let (to, from) = if capacity == 0 { chan::rendezvous() } else { chan::bounded(capacity) };
        Ok((vec![to; senders], vec![from; receivers]))
    }

    fn send(to: &Self::Sender, number: u64) {
        to.send(number).expect("the receivers live as long as the cell");
    }

    fn receive(from: &Self::Receiver) -> u64 {
        from.recv().expect("the senders live as long as the cell")
    }
}

/// The standard library's channel.
#[derive(Debug, Clone, Copy)]
pub struct Std;

impl Channel for Std {
    type Sender = mpsc::SyncSender<u64>;
    type Receiver = mpsc::Receiver<u64>;

    fn open(capacity: usize, senders: usize, receivers: usize) -> Result<Ends<Std>, String> {
        if receivers != 1 {
            return Err(format!("the standard library's channel has one receiver, not {receivers}"));
        }
        let (to, from) = mpsc::sync_channel(capacity);
        Ok((vec![to; senders], vec![from]))
    }

    fn send(to: &Self::Sender, number: u64) {
        to.send(number).expect("the receiver lives as long as the cell");
    }

    fn receive(from: &Self::Receiver) -> u64 {
        from.recv().expect("the senders live as long as the cell")
    }
}
