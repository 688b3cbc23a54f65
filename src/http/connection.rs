//! One client: reads its request, writes the answer, closes. Never waits: each call does one read or one write.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use super::message::{Answer, Route, respond};

/// Bytes of one read.
const CHUNK: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    ReceivesRequest,
    SendsResponse,
    /// Reads and drops the rest of the input. To close before all input is read would reset the connection, and the client
    /// could lose the response.
    DropsInput,
}

/// Why a connection cannot continue now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The client has sent nothing, or takes nothing.
    Blocked,
    /// The connection has ended or is broken.
    Closed,
}

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// The server closes the connection then.
    pub(super) until: Instant,
    route: Route,
    stage: Stage,
    /// The request as received so far, later the response.
    bytes: Vec<u8>,
    written: usize,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, route: Route, until: Instant) -> Self {
        Self {
            stream,
            until,
            route,
            stage: Stage::ReceivesRequest,
            bytes: Vec::new(),
            written: 0,
        }
    }

    /// Returns whether it waits to write, rather than to read.
    pub(super) fn is_sending(&self) -> bool {
        self.stage == Stage::SendsResponse
    }

    /// Does one read or one write.
    pub(super) fn step(&mut self, answer: Answer) -> Result<(), Stop> {
        match self.stage {
            Stage::ReceivesRequest => {
                let mut chunk = [0; CHUNK];
                let count = transferred(self.stream.read(&mut chunk))?;
                self.bytes.extend_from_slice(&chunk[..count]);
                if let Some(response) = respond(&self.bytes, self.route, answer) {
                    self.bytes = response.into_bytes();
                    self.stage = Stage::SendsResponse;
                }
            }
            Stage::SendsResponse => {
                let rest = &self.bytes[self.written..];
                self.written += transferred(self.stream.write(rest))?;
                if self.written == self.bytes.len() {
                    self.bytes.clear();
                    self.stage = Stage::DropsInput;
                    let end = self.stream.shutdown(Shutdown::Write);
                    end.map_err(|_| Stop::Closed)?;
                }
            }
            Stage::DropsInput => {
                transferred(self.stream.read(&mut [0; CHUNK]))?;
            }
        }
        Ok(())
    }
}

/// Returns the number of bytes of a read or write. Zero bytes mean that the connection has ended.
fn transferred(outcome: io::Result<usize>) -> Result<usize, Stop> {
    match outcome {
        Ok(0) => Err(Stop::Closed),
        Ok(count) => Ok(count),
        Err(error) if would_block(&error) => Err(Stop::Blocked),
        Err(_) => Err(Stop::Closed),
    }
}

pub(super) fn would_block(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAGAIN)
}
