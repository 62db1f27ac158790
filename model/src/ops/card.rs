//! A card as CubeCL runs it, for libraries that work on its memory and in the order of its work.
//!
//! CubeCL's server owns a card: one thread takes tasks in order, and each is sent to a stream of the driver. A
//! library's call is a task like the others, on the server's stream. CubeCL does not offer its stream to
//! others; it is read from what the server prints of itself ([`stream_of`]), which [`crate::device`] makes
//! unambiguous by asking for one stream. Where it cannot be read, the library is not used.

use std::sync::{Mutex, PoisonError};

use burn_cubecl::CubeDevice;
use burn_std::backtrace::BackTrace;
use burn_std::id::StreamId;
use cubecl::client::Client;
use cubecl::cuda::{CudaDevice, CudaRuntime};
use cubecl::device_handle::DeviceHandle;
use cubecl::server::{BufferBinding, ServerError, ServerStorage};
use cubecl_runtime::runtime::Runtime;
use cubecl_runtime::storage::{ComputeStorage, ManagedResource};
use cubecl_server::stream::ExecuteScope;
use cudarc::driver::sys::CUstream;

/// The server of a card.
pub(super) type Server = <CudaRuntime as Runtime>::Server;

/// The bit of a card; none for cards beyond those that are counted.
pub(super) fn bit(index: usize) -> u64 {
    u32::try_from(index).map_or(0, |index| 1u64.checked_shl(index).unwrap_or(0))
}

/// The task queue of a card.
pub(super) fn server(client: &Client) -> DeviceHandle<Server> {
    DeviceHandle::new(client.service_id().device)
}

/// Runs `start` on the thread of a card's server, with its stream.
///
/// # Errors
/// Its own, and if the card has no bit, or its stream cannot be read.
pub(super) fn with_stream(
    index: usize,
    start: impl FnOnce(CUstream) -> Result<(), String> + Send,
) -> Result<(), String> {
    if bit(index) == 0 {
        return Err(format!("cards are counted up to 63, this is {index}"));
    }
    let client = CubeDevice::Cuda(CudaDevice::new(index)).client();
    // Something in the card's memory: the server has a stream from then on.
    let probe = client.create_from_slice(&[0; 16]).binding();
    let stream = StreamId::current();
    let started = server(&client).submit_blocking(move |server| {
        server
            .get_resource(probe, stream)
            .map_err(|error| error.to_string())?;
        start(stream_of(&format!("{server:?}"))?)
    });
    started.map_err(|error| format!("{error:?}"))?
}

/// The stream that a server sends its work to, from what it prints of itself.
fn stream_of(server: &str) -> Result<CUstream, String> {
    let mut found: Vec<&str> = server
        .split("sys: 0x")
        .skip(1)
        .map(|rest| {
            rest.split(|c: char| !c.is_ascii_hexdigit())
                .next()
                .unwrap_or("")
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [one] => match usize::from_str_radix(one, 16) {
            Ok(address) if address != 0 => Ok(std::ptr::with_exposed_provenance_mut(address)),
            _ => Err(format!("CubeCL names no stream: `{one}`")),
        },
        _ => Err(format!(
            "CubeCL works with {} streams where one was asked for (`max_streams` of a cubecl.toml?)",
            found.len()
        )),
    }
}

/// Runs a library's call on the server's thread, as CubeCL runs a kernel: what it should have written carries its
/// failure, or that of what it reads, and so does all that is computed from it, until somebody reads it and is told.
///
/// `body` gets the memory of `read`, then that of `written`. What is recorded meanwhile is told of the call.
pub(super) fn call(
    server: &mut Server,
    stream: StreamId,
    (read, written): (Vec<BufferBinding>, Vec<BufferBinding>),
    body: impl FnOnce(Vec<Memory>) -> Result<(), String>,
) {
    // Before the scope: in it what is to be written counts as lost.
    let operands = read.into_iter().chain(written.iter().cloned());
    let memory: Result<Vec<Memory>, ServerError> = operands
        .map(|operand| server.get_resource(operand, stream))
        .collect();
    let scope = ExecuteScope::over(server, stream, written);
    // Whoever reads a result hears of the failure, which nobody waits for here.
    let _ = scope.execute(|_| {
        body(memory?).map_err(|reason| ServerError::Generic {
            reason,
            backtrace: BackTrace::capture(),
        })
    });
}

/// Memory of a card, which stays where it is for as long as this is held.
pub(super) type Memory =
    ManagedResource<<<Server as ServerStorage>::Storage as ComputeStorage>::Resource>;

/// Why a library is not used, by the card's number.
pub(super) struct Reasons(Mutex<Vec<(usize, String)>>);

impl Reasons {
    pub(super) const fn none() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Notes how starting a library on a card ended.
    pub(super) fn note(&self, index: usize, started: Result<(), String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(other, _)| *other != index);
        if let Err(reason) = started {
            known.push((index, reason));
        }
    }

    /// Why not on this card, if so.
    pub(super) fn of(&self, index: usize) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_card = known.iter().find(|(other, _)| *other == index);
        of_card.map(|(_, reason)| reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_where_there_is_one() {
        for (printed, expected) in [
            (
                "Stream { sys: 0x7f00, memory: .. } Stream { sys: 0x7f00 }",
                Some(0x7f00),
            ),
            ("Stream { sys: 0x7f00 } Stream { sys: 0x7f08 }", None),
            ("Stream { sys: 0x0 }", None),
            ("Stream { system: 3 }", None),
            ("", None),
        ] {
            let found = stream_of(printed).ok().map(|stream| stream.addr());
            assert_eq!(found, expected, "{printed}");
        }
    }
}
