//! One request by the host's `curl`, for what minreq cannot do: TLS, proxies, and servers that it cannot read. curl is a child
//! in the group of this process, runs as its user, and is killed when nobody reads on.
#![expect(
    clippy::disallowed_methods,
    reason = "curl is a process, and it reads files of the operator"
)]

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, PipeReader, Read, Seek as _, Write as _};
use std::net::ToSocketAddrs as _;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use super::address::host_and_port;
use super::curl_config::{self, Files};
use super::curl_faults::words;
use super::head::{self, AnswerHead};
use super::reach;
use super::request::Request;
use crate::error::{At, Cause, Result};
use crate::model::{Network, is_plain_host};
use crate::os::command::Command;
use crate::os::files;
use crate::os::spawn::Process;
use crate::os::walk::{self, Trusted};

/// Where systems and Homebrew have it. PATH does not count: whoever can write there would choose what runs.
const PLACES: [&str; 4] = [
    "/usr/bin/curl",
    "/usr/local/bin/curl",
    "/bin/curl",
    "/opt/homebrew/bin/curl",
];
/// Its configuration comes from stdin alone. It must be 7.61 or newer, which has the second of these options: an older one
/// takes several addresses of one name for none, and looks the name up itself.
const ARGUMENTS: [&str; 4] = ["-q", "--disallow-username-in-url", "--config", "-"];
/// No variable of this process decides how a server is reached, so that workers of all users reach it in the same way. The
/// messages are in English, and never those of a debugger of TLS.
const ENVIRONMENT: [(&str, &str); 1] = [("LC_ALL", "C")];
/// The address space of curl, in bytes. That of Debian starts with 20 MB; other builds load more libraries and certificates,
/// and must not fail by the limit of this process, `net::MEMORY_LIMIT`.
const MEMORY_LIMIT: u64 = 512 << 20;
const CHUNK: usize = 4096;
/// Bytes that are read of what curl prints.
const PRINTED_LIMIT: u64 = 4096;

/// Fails if this URL needs curl, and curl or a file for it cannot be used.
pub fn check(network: &Network, url: &str) -> Result<()> {
    if !network.needs_curl(url) {
        return Ok(());
    }
    program(network).at("reach", url)?;
    Ok(())
}

/// Returns the path of curl, if there is one.
pub fn find(network: &Network) -> Option<&str> {
    let own = [network.curl.as_str()];
    let places = if own == [""] { &PLACES[..] } else { &own };
    let mut places = places.iter().copied();
    places.find(|path| Path::new(path).exists())
}

/// Returns the path of curl. Nobody else may be able to replace it, and the files of the operator can be read.
fn program(network: &Network) -> std::result::Result<&str, Cause> {
    let Some(program) = find(network) else {
        return Err("curl is not installed; install it or set \"curl\"".into());
    };
    walk::check(Path::new(program), Trusted::strict())?;
    for file in [&network.ca_file, &network.client_cert, &network.client_key] {
        if !file.is_empty() {
            File::open(file).at("read", file)?;
        }
    }
    Ok(program)
}

/// The rest of an answer, which curl still sends.
pub(super) struct Transfer {
    child: Process,
    /// The headers that may follow a body stay in it. A curl that could not write them would fail.
    head: PipeReader,
    body: PipeReader,
    /// What curl prints.
    printed: File,
    host: String,
    is_over: bool,
}

/// Sends a request. Returns the head of the final answer, in UTF-8, and the rest.
pub(super) fn start(request: &Request, network: &Network) -> Result<(String, Transfer)> {
    let start = || {
        let program = program(network)?;
        let addresses = addresses(request.url, network)?;
        let mut transfer = spawn(program, request, network, &addresses)
            .map_err(|error| Cause::of_call("run curl", error))?;
        let head = transfer.read_head()?;
        Ok::<_, Cause>((head, transfer))
    };
    start().at(request.what, request.shown)
}

/// Resolves the name in this process, so that curl connects to no other address than those that were judged: a name could
/// resolve to one address when it is checked and to another when it is used.
///
/// Behind a proxy nothing is resolved here: the proxy connects, and what is inside for it is not this host.
fn addresses(url: &str, network: &Network) -> std::result::Result<String, Cause> {
    if network.proxy_for(url).is_some() {
        reach::permit_all(&[]);
        return Ok(String::new());
    }
    let odd = || "its host or port cannot be used";
    let (host, port) = host_and_port(url).ok_or_else(odd)?;
    // curl would look for another spelling of the name, find no address, and resolve it itself.
    if !is_plain_host(host) || host.starts_with('-') || host.ends_with('.') {
        return Err(odd().into());
    }
    let found = (host, port).to_socket_addrs()?;
    if !reach::permit_all(found.as_slice()) {
        return Err("its address must not be reached by a redirect".into());
    }
    let mut text = format!("{host}:{port}:");
    for address in found {
        // An IPv6 address in brackets, as curl takes an IPv4 address too.
        let _ = write!(text, "[{}],", address.ip());
    }
    text.pop();
    Ok(text)
}

fn spawn(
    program: &str,
    request: &Request,
    network: &Network,
    addresses: &str,
) -> io::Result<Transfer> {
    let (config, mut config_writer) = io::pipe()?;
    let (head, head_writer) = io::pipe()?;
    let (body, body_writer) = io::pipe()?;
    let printed = files::nameless_file()?;
    let mut command = Command::new(program);
    command
        .environment(&ENVIRONMENT)
        .limit_memory(MEMORY_LIMIT)
        .keep_open(head_writer.as_raw_fd());
    let sent = request.body.as_deref().map(in_file).transpose()?;
    if let Some(file) = &sent {
        command.keep_open(file.as_raw_fd());
    }
    command
        .args(&ARGUMENTS)
        .stdin(config)
        .stdout(body_writer)
        .stderr(printed.try_clone()?);
    let child = command.spawn()?;
    // Its ends of the pipes: a curl that has ended must not keep this process waiting.
    drop(command);
    let transfer = Transfer {
        child,
        head,
        body,
        printed,
        host: host_and_port(request.url).map_or_else(String::new, |(host, _)| host.to_owned()),
        is_over: false,
    };
    let path = |fd: i32| format!("/dev/fd/{fd}");
    let sent = sent.map(|file| path(file.as_raw_fd()));
    let files = Files {
        head: &path(head_writer.as_raw_fd()),
        body: sent.as_deref(),
        addresses,
    };
    let text = curl_config::text(request, network, &files);
    // If this fails, curl has ended, and its code says why.
    let _ = config_writer.write_all(text.as_bytes());
    Ok(transfer)
}

fn in_file(text: &str) -> io::Result<File> {
    let mut file = files::nameless_file()?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

impl Transfer {
    /// Reads up to the empty line of the final answer. If the pipe cannot hold the headers that may follow a body, curl waits
    /// for ever, and the deadline of this process ends both.
    fn read_head(&mut self) -> std::result::Result<String, Cause> {
        let mut filter = AnswerHead::new();
        let mut head = Vec::new();
        let mut chunk = [0; CHUNK];
        while !filter.is_over() {
            let got = self.head.read(&mut chunk)?;
            let mut fresh = [filter.kept(), &chunk[..got]].concat();
            let passed = filter.pass(&mut fresh, got == 0);
            head.extend_from_slice(&fresh[passed]);
            if got == 0 {
                let fault = self.end()?;
                return Err(fault.unwrap_or_else(|| words(52, "", "")).into());
            }
            if head.len() > head::LIMIT {
                return Err(head::TOO_LARGE.into());
            }
        }
        // The filter leaves only UTF-8. What may follow a body is cut off by whoever reads the lines.
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    /// Waits for curl, which has closed its output. Returns what went wrong.
    fn end(&mut self) -> io::Result<Option<String>> {
        self.is_over = true;
        let status = self.child.wait()?;
        if status.success() {
            return Ok(None);
        }
        let printed = files::read_text(&self.printed, 0, PRINTED_LIMIT)?;
        Ok(Some(match (status.code(), status.signal()) {
            (Some(code), _) => words(code, &printed, &self.host),
            (None, signal) => format!("signal {} ended curl", signal.unwrap_or_default()),
        }))
    }
}

impl Read for Transfer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_over {
            return Ok(0);
        }
        let got = self.body.read(buffer)?;
        if got > 0 {
            return Ok(got);
        }
        self.end()?
            .map_or(Ok(0), |fault| Err(io::Error::other(fault)))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // It may have ended, and then this does nothing.
        let _ = self.child.kill();
    }
}
