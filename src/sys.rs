//! The system calls that std has no safe word for. Small wrappers that decide nothing.
//! With `spawn.rs` and `user.rs` the only place for `unsafe`; each block says why it is sound.
#![allow(unsafe_code)]
#![allow(
    clippy::cast_lossless,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "C's types are of other widths on some of our targets"
)]
#![expect(clippy::disallowed_methods, reason = "this is the system")]

use std::cell::Cell;
use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::disk;

/// Where the signal handler writes; -1 until `Signals::new`.
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

/// What `set_umask` found.
static BORN_UMASK: AtomicU32 = AtomicU32::new(0);

/// Signals turned into bytes of a pipe, so that one `poll` waits for everything (the self-pipe of D. J. Bernstein).
pub struct Signals {
    reader: io::PipeReader,
    _writer: io::PipeWriter,
    shielded: Cell<bool>,
    /// Whether the reader of stdout is who keeps us alive.
    lifeline: Cell<bool>,
}

/// While it lives, TERM is a byte of the pipe and does not end the process.
pub struct TermCaught<'a>(&'a Signals);

impl Drop for TermCaught<'_> {
    fn drop(&mut self) {
        if !self.0.shielded.get() {
            act_on(libc::SIGTERM, libc::SIG_DFL);
        }
    }
}

impl Signals {
    /// Only one may live in a process: the handler knows one pipe.
    pub fn new(wanted: &[i32]) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        set_nonblocking(reader.as_raw_fd())?;
        set_nonblocking(writer.as_raw_fd())?;
        SIGNAL_PIPE.store(writer.as_raw_fd(), Ordering::Relaxed);
        for signal in wanted {
            catch(*signal);
        }
        Ok(Self {
            reader,
            _writer: writer,
            shielded: Cell::new(false),
            lifeline: Cell::new(false),
        })
    }

    /// For as long as children of ours must be ended before us.
    pub fn catch_term(&self) -> TermCaught<'_> {
        if !self.shielded.get() {
            catch(libc::SIGTERM);
        }
        TermCaught(self)
    }

    /// From now on TERM has no effect at all.
    pub fn shield_from_term(&self) {
        self.shielded.set(true);
        act_on(libc::SIGTERM, libc::SIG_IGN);
    }

    /// From now on a reader of stdout that goes away counts as TERM. For a child that runs through sudo: the daemon,
    /// which is another user, cannot signal it.
    pub fn live_by_stdout(&self) {
        self.lifeline.set(true);
    }

    pub fn is_deserted(&self) -> bool {
        !self.shielded.get() && self.lifeline.get() && is_stdout_deserted()
    }

    pub fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// The signals that came since the last call, as their numbers.
    pub fn take(&self) -> Vec<i32> {
        let mut bytes = [0; 64];
        let got = io::Read::read(&mut &self.reader, &mut bytes).unwrap_or(0);
        bytes[..got].iter().map(|byte| i32::from(*byte)).collect()
    }
}

extern "C" fn note(signal: i32) {
    let byte = u8::try_from(signal).unwrap_or(0);
    // SAFETY: write(2) is async-signal-safe, the buffer is on this stack, and errno is put back because
    // the interrupted code may be about to read it.
    unsafe {
        let errno = errno_location();
        let saved = *errno;
        libc::write(
            SIGNAL_PIPE.load(Ordering::Relaxed),
            (&raw const byte).cast(),
            1,
        );
        *errno = saved;
    }
}

#[cfg(target_os = "linux")]
unsafe fn errno_location() -> *mut i32 {
    // SAFETY: always a valid pointer to this thread's errno.
    unsafe { libc::__errno_location() }
}

#[cfg(not(target_os = "linux"))]
unsafe fn errno_location() -> *mut i32 {
    // SAFETY: always a valid pointer to this thread's errno.
    unsafe { libc::__error() }
}

pub fn errno() -> i32 {
    // SAFETY: always a valid pointer to this thread's errno.
    unsafe { *errno_location() }
}

/// The variable that holds this process's environment: a list of `NAME=value`, ended by NULL.
pub fn environ() -> *mut *const *const c_char {
    #[cfg(target_os = "macos")]
    // SAFETY: it gives the variable's address, always.
    unsafe {
        libc::_NSGetEnviron().cast()
    }
    #[cfg(not(target_os = "macos"))]
    {
        unsafe extern "C" {
            static mut environ: *const *const c_char;
        }
        &raw mut environ
    }
}

/// Puts these entries in the place of this process's whole environment, for as long as it lives.
pub fn replace_environment(entries: &[String]) -> io::Result<()> {
    let mut list = Vec::new();
    for entry in entries {
        list.push(c_string(OsStr::new(entry))?.into_raw().cast_const());
    }
    list.push(std::ptr::null());
    // SAFETY: neither the list nor its strings are ever freed, and no other thread reads the environment meanwhile.
    unsafe {
        *environ() = list.leak().as_ptr();
    }
    Ok(())
}

/// From now on the signal becomes a byte of the `Signals` pipe.
fn catch(signal: i32) {
    act_on(signal, note as *const () as libc::sighandler_t);
}

fn act_on(signal: i32, handler: libc::sighandler_t) {
    // SAFETY: a zeroed sigaction is valid; the handler is one of SIG_DFL, SIG_IGN and `note`, which only
    // does what is async-signal-safe. An invalid signal number is refused by the kernel without effect.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

/// Whoever started us may have blocked signals; TERM must reach us, and agents inherit none of it.
pub fn unblock_signals() {
    // SAFETY: sigemptyset fills the set it is given, and sigprocmask reads it.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Until `unblock_signals`.
pub fn block_signals() {
    // SAFETY: as above.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// What comes from the file up to its end, but not much more than so many bytes. Fails where it is no text.
pub fn read_rest(mut file: &File, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while bytes.len() as u64 <= limit {
        match io::Read::read(&mut file, &mut chunk)? {
            0 => break,
            got => bytes.extend_from_slice(&chunk[..got]),
        }
    }
    let text = String::from_utf8(bytes);
    text.map_err(|_| io::Error::other("stream did not contain valid UTF-8"))
}

/// What stands in the file from this offset on, at most so many bytes; those that are no text become U+FFFD.
pub fn read_text(file: &File, from: u64, limit: u64) -> io::Result<String> {
    let mut bytes = vec![0; limit as usize];
    let mut end = 0;
    while end < bytes.len() {
        match file.read_at(&mut bytes[end..], from + end as u64)? {
            0 => break,
            got => end += got,
        }
    }
    Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// Whether the reader of our stdout, the daemon, is gone.
pub fn is_stdout_deserted() -> bool {
    poll_now(libc::STDOUT_FILENO, 0) > 0
}

/// Whether a write would not wait, as to a pipe that nobody reads any more.
pub fn is_writable(fd: RawFd) -> bool {
    poll_now(fd, libc::POLLOUT) != 0
}

/// What poll(2) says of one descriptor at this moment.
fn poll_now(fd: RawFd, events: i16) -> i32 {
    let mut polled = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // SAFETY: one live struct, and the call does not wait.
    unsafe { libc::poll(&raw mut polled, 1, 0) }
}

pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    set_flag(fd, libc::O_NONBLOCK)
}

/// Adds a status flag, such as `O_APPEND`, to an open file.
pub fn set_flag(fd: RawFd, flag: i32) -> io::Result<()> {
    // SAFETY: fcntl on an integer touches no memory of ours.
    let done = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        libc::fcntl(fd, libc::F_SETFL, flags | flag)
    };
    check(done)
}

/// Makes `fd`, whatever it was, the file that is open as `file`.
pub fn duplicate(file: &File, fd: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes integers only, and `fd` is open afterwards as it was before.
    check(unsafe { libc::dup2(file.as_raw_fd(), fd) })
}

/// A descriptor, and what it is waited for to be.
pub type Awaited = (RawFd, i16);
pub const READABLE: i16 = libc::POLLIN;
pub const WRITABLE: i16 = libc::POLLOUT;

/// Waits until one of the descriptors is readable, a signal comes, or the time is over.
pub fn wait_readable(fd: RawFd, timeout: Duration) {
    wait_for(&[(fd, READABLE)], timeout);
}

/// The same of several, each for what it is waited for.
pub fn wait_for(awaited: &[Awaited], timeout: Duration) {
    let polled = awaited.iter().map(|(fd, events)| libc::pollfd {
        fd: *fd,
        events: *events,
        revents: 0,
    });
    let mut polled: Vec<libc::pollfd> = polled.collect();
    // Rounded up: a poll that returns a moment before its time would spin.
    let millis = i32::try_from(timeout.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
    // SAFETY: the pointer and the length are those of a live Vec. EINTR and errors only end the wait early.
    unsafe {
        libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis);
    }
}

/// Signals the process group that `leader` leads; false where nobody is left of it.
pub fn signal_group(leader: i32, signal: i32) -> bool {
    // Guards against "every process" (-1) and "my own group" (0).
    // SAFETY: kill(2) touches no memory.
    leader > 1 && (unsafe { libc::kill(-leader, signal) } == 0 || errno() != libc::ESRCH)
}

/// Asks the daemon of this number for a heartbeat; false where that is not allowed.
pub fn tell_to_beat(pid: u32) -> bool {
    // SAFETY: kill(2) touches no memory.
    pid > 1 && unsafe { libc::kill(pid as libc::pid_t, libc::SIGUSR1) } == 0
}

/// Whether the descriptor is a terminal.
pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: isatty(3) touches no memory of ours.
    unsafe { libc::isatty(fd) == 1 }
}

/// Whether a process of this number leads a session, as every control script does.
pub fn leads_session(pid: u32) -> bool {
    let pid = pid as libc::pid_t;
    // SAFETY: getsid(2) touches no memory.
    pid > 1 && unsafe { libc::getsid(pid) } == pid
}

/// A living process: its group, and its number with the time of its birth, which no later process of that number shares.
/// None for one that is dead, reaped or not, and where the system does not tell.
fn living(pid: &str) -> Option<(String, String)> {
    let stat = disk::read_small(Path::new(&format!("/proc/{pid}/stat")), 4096).ok()?;
    // Behind the name, which may hold anything: state, parent, group, and 17 words later the birth (proc(5)).
    let mut words = stat.rsplit(')').next()?.split(' ').skip(1);
    let is_dead = matches!(words.next()?, "Z" | "X");
    let group = words.nth(1)?.to_owned();
    let born = words.nth(16)?;
    (!is_dead).then(|| (group, format!("{pid} {born}")))
}

/// The trace of somebody of this process group who lives; empty: nobody does.
pub fn survivor(leader: i32) -> String {
    let leader = leader.to_string();
    for pid in disk::names(Path::new("/proc")).into_iter().flatten() {
        if let Some((group, trace)) = pid.to_str().and_then(living)
            && group == leader
        {
            return trace;
        }
    }
    String::new()
}

/// Whether the process that left the trace still lives.
pub fn lives(trace: &str) -> bool {
    let pid = trace.split(' ').next().unwrap_or_default();
    living(pid).is_some_and(|(_, now)| now == trace)
}

/// Marks every descriptor that this process was born with, save the first three, so that no child inherits it.
pub fn close_inherited_on_exec() {
    let listed = disk::names(Path::new("/proc/self/fd"));
    let listed = listed.or_else(|_| disk::names(Path::new("/dev/fd")));
    for name in listed.into_iter().flatten() {
        if let Some(fd) = name.to_str().and_then(|name| name.parse::<u32>().ok())
            && fd > 2
        {
            // SAFETY: fcntl on an integer touches no memory; a closed one is refused.
            unsafe {
                libc::fcntl(fd as RawFd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// While it lives, the soft limit on this process's address space is lower; what reads hostile bytes runs under it.
pub struct MemoryLimit {
    before: libc::rlimit,
}

impl MemoryLimit {
    pub fn set(bytes: u64) -> Option<Self> {
        let before = limit(libc::RLIMIT_AS, None)?;
        let mut lower = before;
        lower.rlim_cur = libc::rlim_t::try_from(bytes)
            .unwrap_or(before.rlim_cur)
            .min(before.rlim_cur);
        limit(libc::RLIMIT_AS, Some(&lower))?;
        Some(Self { before })
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Raising a soft limit to its old value is always allowed.
        limit(libc::RLIMIT_AS, Some(&self.before));
    }
}

/// Tells a limit, or sets it. Not by musl's setrlimit: like its setuid it makes all threads follow, 1.4 KB, and there is
/// one here.
fn limit(resource: Resource, new: Option<&libc::rlimit>) -> Option<libc::rlimit> {
    // SAFETY: the calls read the one struct and fill the other.
    unsafe {
        let mut held: libc::rlimit = std::mem::zeroed();
        let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
        #[cfg(target_os = "linux")]
        let done = libc::prlimit(0, resource, new, &raw mut held);
        #[cfg(not(target_os = "linux"))]
        let done = if new.is_null() {
            libc::getrlimit(resource, &raw mut held)
        } else {
            libc::setrlimit(resource, new)
        };
        (done == 0).then_some(held)
    }
}

/// What C libraries call the number of a limit.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
type Resource = c_int;

/// The numbers of setgroups, setgid and setuid for ids of 32 bits.
#[cfg(all(target_os = "linux", target_arch = "x86"))]
const SET_IDS: [libc::c_long; 3] = [
    libc::SYS_setgroups32,
    libc::SYS_setgid32,
    libc::SYS_setuid32,
];
#[cfg(all(target_os = "linux", not(target_arch = "x86")))]
const SET_IDS: [libc::c_long; 3] = [libc::SYS_setgroups, libc::SYS_setgid, libc::SYS_setuid];

pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    let count = groups.len();
    // SAFETY: the pointer and the count are those of a live slice.
    #[cfg(target_os = "linux")]
    let done = unsafe { libc::syscall(SET_IDS[0], count, groups.as_ptr()) };
    // SAFETY: as above.
    #[cfg(not(target_os = "linux"))]
    let done = unsafe { libc::setgroups(count as libc::c_int, groups.as_ptr()) };
    check(done as i32)
}

pub fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: it takes an integer.
    #[cfg(target_os = "linux")]
    let done = unsafe { libc::syscall(SET_IDS[1], gid) };
    // SAFETY: as above.
    #[cfg(not(target_os = "linux"))]
    let done = unsafe { libc::setgid(gid) };
    check(done as i32)
}

pub fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: it takes an integer.
    #[cfg(target_os = "linux")]
    let done = unsafe { libc::syscall(SET_IDS[2], uid) };
    // SAFETY: as above.
    #[cfg(not(target_os = "linux"))]
    let done = unsafe { libc::setuid(uid) };
    check(done as i32)
}

/// A file without a name: for what a child writes and nobody else may see, and for jobs on stdin.
/// In memory where the system can, so that watching a healthy agent writes to no disk.
pub fn nameless_file() -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the name is a literal with its NUL; the descriptor, checked first, is owned by nobody else.
        unsafe {
            let fd = libc::memfd_create(c"ops-updater".as_ptr(), libc::MFD_CLOEXEC);
            if fd >= 0 {
                return Ok(File::from_raw_fd(fd));
            }
        }
    }
    let mut template = std::env::temp_dir()
        .join("ops-updater.XXXXXX")
        .into_os_string()
        .into_encoded_bytes();
    template.push(0);
    // SAFETY: mkstemp writes only over the six X of a NUL-terminated buffer; the descriptor is checked and then
    // owned here alone; unlink reads the same buffer.
    let file = unsafe {
        let fd = libc::mkstemp(template.as_mut_ptr().cast());
        check(fd)?;
        libc::unlink(template.as_ptr().cast());
        libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        File::from_raw_fd(fd)
    };
    Ok(file)
}

/// What holds a path, as far as it matters to whoever wants to put files there.
pub struct FileSystem {
    /// Bytes that an ordinary user may still write.
    pub free: u64,
    /// Files that may still be made; none where the file system does not count them.
    pub files: Option<u64>,
    pub is_read_only: bool,
    /// No program can be run from it. Told by Linux alone.
    pub is_no_exec: bool,
}

pub fn file_system(path: &Path) -> io::Result<FileSystem> {
    let path = c_string(path.as_os_str())?;
    // SAFETY: statvfs reads a NUL-terminated path and fills the struct it is given.
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        check(libc::statvfs(path.as_ptr(), &raw mut stat))?;
        stat
    };
    // ST_RDONLY and ST_NOEXEC of bits/statvfs.h; libc has no name for the second on musl, and macOS no such flag.
    Ok(FileSystem {
        free: u64::from(stat.f_bavail).saturating_mul(stat.f_frsize as u64),
        files: (stat.f_files > 0).then_some(u64::from(stat.f_favail)),
        is_read_only: stat.f_flag & 1 != 0,
        is_no_exec: cfg!(target_os = "linux") && stat.f_flag & 8 != 0,
    })
}

/// Bytes that an ordinary user may still write to the filesystem of `path`.
pub fn free_bytes(path: &Path) -> Option<u64> {
    file_system(path).ok().map(|holder| holder.free)
}

type OnTwo = unsafe extern "C" fn(*const c_char, *const c_char) -> c_int;

/// A call that takes two paths. std's versions of these three take 1 KB.
fn on_two(call: OnTwo, one: &Path, other: &Path) -> io::Result<()> {
    let one = c_string(one.as_os_str())?;
    let other = c_string(other.as_os_str())?;
    // SAFETY: both paths are NUL-terminated and live through the call.
    check(unsafe { call(one.as_ptr(), other.as_ptr()) })
}

pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    on_two(libc::rename, from, to)
}

/// Gives a file, which is no link, another name.
pub fn hard_link(file: &Path, name: &Path) -> io::Result<()> {
    on_two(libc::link, file, name)
}

pub fn symlink(target: &OsStr, name: &Path) -> io::Result<()> {
    on_two(libc::symlink, Path::new(target), name)
}

/// Swaps two names in one step; `Unsupported` or `InvalidInput` where the filesystem cannot.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let one = c_string(one.as_os_str())?;
    let other = c_string(other.as_os_str())?;
    // SAFETY: both paths are NUL-terminated and live through the call.
    #[cfg(target_os = "linux")]
    let done = unsafe {
        // The number, not the wrapper: musl has none. 2 is RENAME_EXCHANGE, linux/fs.h.
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            2,
        )
    };
    // SAFETY: as above.
    #[cfg(not(target_os = "linux"))]
    let done = unsafe { libc::renamex_np(one.as_ptr(), other.as_ptr(), libc::RENAME_SWAP) };
    check(i32::try_from(done).unwrap_or(-1))
}

pub fn hostname() -> Option<String> {
    let mut name = [0_u8; 256];
    // SAFETY: the pointer and the length are those of a live array; the last byte stays NUL.
    let done = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let end = name.iter().position(|byte| *byte == 0)?;
    (done == 0 && end > 0).then(|| String::from_utf8_lossy(&name[..end]).into_owned())
}

/// Files that we make are for their owner to write and for all to read, whatever shell started us.
pub fn set_umask() {
    // SAFETY: umask(2) touches no memory and cannot fail.
    let before = unsafe { libc::umask(0o022) };
    BORN_UMASK.store(u32::from(before), Ordering::Relaxed);
}

/// The umask that whoever started us works with.
pub fn born_umask() -> u32 {
    BORN_UMASK.load(Ordering::Relaxed)
}

/// How many descriptors this process, and what it starts, may have open.
pub fn open_file_limit() -> Option<u64> {
    limit(libc::RLIMIT_NOFILE, None).map(|limit| limit.rlim_cur as u64)
}

/// Ends this process by SIGALRM after so many seconds unless called again; 0 calls it off. The last resort of a
/// child whose daemon is gone: nobody else would end it.
pub fn alarm(seconds: u32) {
    // SAFETY: alarm(2) touches no memory.
    unsafe {
        libc::alarm(seconds);
    }
}

/// Seconds since 1970 by the wall clock; 0 before then.
pub fn unix_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

pub fn effective_uid() -> u32 {
    // SAFETY: geteuid(2) touches no memory and cannot fail.
    unsafe { libc::geteuid() }
}

/// Who owns a file, and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    pub uid: u32,
    pub gid: u32,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
}

impl Stat {
    pub fn is_dir(&self) -> bool {
        self.is_kind(libc::S_IFDIR)
    }

    pub fn is_link(&self) -> bool {
        self.is_kind(libc::S_IFLNK)
    }

    fn is_kind(&self, kind: libc::mode_t) -> bool {
        self.mode & libc::S_IFMT as u32 == kind as u32
    }

    fn of(stat: &libc::stat) -> Self {
        Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode as u32,
        }
    }
}

const DIR_FLAGS: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;

pub fn open_root() -> io::Result<OwnedFd> {
    Ok(open(Path::new("/"), DIR_FLAGS, 0)?.into())
}

/// open(2): std's `OpenOptions` take twice the bytes at each of their uses. `mode` is for a file that it creates.
pub fn open(path: &Path, flags: c_int, mode: u32) -> io::Result<File> {
    let path = c_string(path.as_os_str())?;
    // SAFETY: the path is NUL-terminated and lives through the call; the descriptor is checked before it is owned.
    Ok(unsafe { owned(libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode))? }.into())
}

/// The names of what is in a directory. std's takes 1 KB more.
pub struct Names(*mut libc::DIR);

impl Names {
    pub fn of(dir: &Path) -> io::Result<Self> {
        Self::open(
            libc::AT_FDCWD,
            &c_string(dir.as_os_str())?,
            DIR_FLAGS & !libc::O_NOFOLLOW,
        )
    }

    fn open(dir: RawFd, name: &CStr, flags: c_int) -> io::Result<Self> {
        // SAFETY: the name is NUL-terminated and lives through the call; the stream owns the descriptor, which is a
        // directory's, and so a stream is what there must be of it, unless memory is short.
        unsafe {
            let fd = libc::openat(dir, name.as_ptr(), flags);
            check(fd)?;
            let stream = libc::fdopendir(fd);
            if stream.is_null() {
                let error = io::Error::last_os_error();
                libc::close(fd);
                return Err(error);
            }
            Ok(Self(stream))
        }
    }

    fn next_name(&mut self) -> Option<&CStr> {
        loop {
            // SAFETY: the stream is ours, and an entry lives until the next one is read.
            let name = unsafe {
                let entry = libc::readdir(self.0);
                if entry.is_null() {
                    return None;
                }
                CStr::from_ptr((&raw const (*entry).d_name).cast())
            };
            if name != c"." && name != c".." {
                return Some(name);
            }
        }
    }
}

impl Iterator for Names {
    type Item = OsString;

    #[inline(never)]
    fn next(&mut self) -> Option<OsString> {
        let name = self.next_name()?;
        Some(OsString::from_vec(name.to_bytes().to_vec()))
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // SAFETY: nobody else has the stream.
        unsafe {
            libc::closedir(self.0);
        }
    }
}

/// Removes whatever it is; what is not there is no error. Goes from directory to directory by descriptors, so that a link
/// that takes the place of a directory meanwhile is removed and not followed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    remove_tree_at(libc::AT_FDCWD, &c_string(path.as_os_str())?)
}

fn remove_tree_at(dir: RawFd, name: &CStr) -> io::Result<()> {
    let flag = match Names::open(dir, name, DIR_FLAGS) {
        Ok(mut names) => {
            // SAFETY: the stream is open.
            let inner = unsafe { libc::dirfd(names.0) };
            while let Some(name) = names.next_name() {
                remove_tree_at(inner, name)?;
            }
            libc::AT_REMOVEDIR
        }
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => return Ok(()),
            // A file, a link; macOS says the third of a socket.
            Some(libc::ENOTDIR | libc::ELOOP | libc::EOPNOTSUPP) => 0,
            _ => return Err(error),
        },
    };
    // SAFETY: the name is NUL-terminated and lives through the call.
    let removed = check(unsafe { libc::unlinkat(dir, name.as_ptr(), flag) });
    match removed {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        removed => removed,
    }
}

/// Opens a directory in a directory; a link is an error, wherever it leads.
pub fn open_dir_at(dir: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let name = c_string(name)?;
    // SAFETY: the name is NUL-terminated and lives through the call; the descriptor is checked before it is owned.
    unsafe { owned(libc::openat(dir.as_raw_fd(), name.as_ptr(), DIR_FLAGS)) }
}

unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the caller got it from open(2) a moment ago, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Looks at an entry of a directory, not at what a link points to.
pub fn stat_at(dir: &OwnedFd, name: &OsStr) -> io::Result<Stat> {
    let name = c_string(name)?;
    // SAFETY: the name is NUL-terminated; fstatat fills the struct it is given.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::fstatat(
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw mut stat,
            libc::AT_SYMLINK_NOFOLLOW,
        ))?;
        Ok(Stat::of(&stat))
    }
}

pub fn stat_of(file: &OwnedFd) -> io::Result<Stat> {
    // SAFETY: fstat fills the struct it is given.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::fstat(file.as_raw_fd(), &raw mut stat))?;
        Ok(Stat::of(&stat))
    }
}

pub fn make_dir_at(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: the name is NUL-terminated and lives through the call.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), 0o755) })
}

pub fn read_link_at(dir: &OwnedFd, name: &OsStr) -> io::Result<OsString> {
    read_link(dir.as_raw_fd(), name)
}

fn read_link(dir: RawFd, name: &OsStr) -> io::Result<OsString> {
    let name = c_string(name)?;
    let mut target = vec![0_u8; 4096];
    // SAFETY: the pointer and the length are those of a live Vec.
    let length =
        unsafe { libc::readlinkat(dir, name.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    target.truncate(usize::try_from(length).map_err(|_| io::Error::last_os_error())?);
    Ok(OsString::from_vec(target))
}

/// Renames within a directory.
pub fn rename_at(dir: &OwnedFd, from: &OsStr, to: &OsStr) -> io::Result<()> {
    let from = c_string(from)?;
    let to = c_string(to)?;
    let dir = dir.as_raw_fd();
    // SAFETY: both names are NUL-terminated and live through the call.
    check(unsafe { libc::renameat(dir, from.as_ptr(), dir, to.as_ptr()) })
}

/// Makes an open file this user's.
pub fn give(file: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: fchown takes integers only.
    check(unsafe { libc::fchown(file.as_raw_fd(), uid, gid) })
}

pub fn sync(file: &OwnedFd) -> io::Result<()> {
    // SAFETY: fsync takes an integer only.
    check(unsafe { libc::fsync(file.as_raw_fd()) })
}

pub fn check(returned: i32) -> io::Result<()> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The file that this process runs.
pub fn own_program() -> io::Result<PathBuf> {
    #[cfg(target_os = "linux")]
    {
        let path = read_link(libc::AT_FDCWD, OsStr::new("/proc/self/exe"))?;
        Ok(PathBuf::from(path))
    }
    #[cfg(not(target_os = "linux"))]
    std::env::current_exe()
}

/// Ends this process at once; nothing of ours waits in a buffer.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit(2) does not return, and touches no memory.
    unsafe { libc::_exit(code) }
}

/// mkdir(2) with the umask's mode. std's brings with it what makes a whole path, 3 KB.
pub fn create_dir(path: &Path) -> io::Result<()> {
    let path = c_string(path.as_os_str())?;
    // SAFETY: the string lives through the call.
    check(unsafe { libc::mkdir(path.as_ptr(), 0o777) })
}

/// Fails on a NUL within.
pub fn c_string(text: &OsStr) -> io::Result<CString> {
    let bytes = text.as_bytes().to_vec();
    if bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: there is no NUL in it.
    Ok(unsafe { CString::from_vec_unchecked(bytes) })
}
