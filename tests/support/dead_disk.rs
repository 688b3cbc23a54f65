//! A mounted disk that does not answer: a file system in user space whose server reads every request but replies only to
//! the first. A process that touches it sleeps, and no signal wakes it, as with a broken controller or a dead NFS server.
#![expect(unsafe_code, reason = "std has no mount(2) and umount2(2)")]

use super::platform::skipped;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// From linux/fuse.h: the first request, and below it the version of the protocol.
const FUSE_INIT: u32 = 26;
const VERSION: [u32; 2] = [7, 31];

pub struct DeadDisk {
    dir: PathBuf,
    server: Option<JoinHandle<()>>,
}

impl DeadDisk {
    /// Mounts the disk over this directory. Prints a reason and returns `None` if this machine does not allow it.
    pub fn over(dir: &Path) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let Ok(device) = device else {
            skipped("there is no /dev/fuse that we may open");
            return None;
        };
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let path = CString::new(dir.to_str()?).expect("a path");
        let options = CString::new(options).expect("options");
        // SAFETY: all pointers are to strings that end with NUL and live through the call.
        let mounted = unsafe {
            libc::mount(
                c"dead".as_ptr(),
                path.as_ptr(),
                c"fuse".as_ptr(),
                0,
                options.as_ptr().cast(),
            )
        };
        if mounted != 0 {
            let error = std::io::Error::last_os_error();
            skipped(&format!("cannot mount: {error}"));
            return None;
        }
        Some(Self {
            dir: dir.to_owned(),
            server: Some(std::thread::spawn(move || serve(device))),
        })
    }
}

/// Reads requests until the file system is unmounted: then the read fails.
fn serve(mut device: File) {
    let mut request = vec![0; 1 << 20];
    while let Ok(got) = device.read(&mut request) {
        let number =
            |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("4 bytes"));
        if got >= 48 && number(4) == FUSE_INIT {
            let mut answer = vec![0; 80];
            answer[0] = 80;
            answer[8..16].copy_from_slice(&request[8..16]);
            answer[16..20].copy_from_slice(&VERSION[0].to_ne_bytes());
            answer[20..24].copy_from_slice(&VERSION[1].to_ne_bytes());
            answer[36..40].copy_from_slice(&4096_u32.to_ne_bytes());
            let _ = device.write(&answer);
        }
    }
}

impl Drop for DeadDisk {
    /// Unmounts the disk. Processes that wait for it get an error.
    fn drop(&mut self) {
        let path = CString::new(self.dir.to_str().expect("a path")).expect("a path");
        // SAFETY: the pointer is to a string that ends with NUL and lives through the call.
        unsafe {
            libc::umount2(path.as_ptr(), libc::MNT_FORCE);
            libc::umount2(path.as_ptr(), libc::MNT_DETACH);
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}
