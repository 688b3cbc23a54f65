//! A disk that is there and answers nothing: a file system in user space whose server reads every request and replies
//! to the first alone. Whoever touches it sleeps where no signal wakes it, as on a broken controller or a dead server.
#![expect(unsafe_code, reason = "mount(2) and umount2(2) have no safe word")]

use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// Of linux/fuse.h: the request that opens the conversation, and the version of the protocol that we speak.
const FUSE_INIT: u32 = 26;
const VERSION: [u32; 2] = [7, 31];

pub struct DeadDisk {
    dir: PathBuf,
    server: Option<JoinHandle<()>>,
}

impl DeadDisk {
    /// Hides what is in the directory behind itself; none, loudly, where this machine does not let us.
    pub fn over(dir: &Path) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let Ok(device) = device else {
            eprintln!("SKIPPED: there is no /dev/fuse that we may open");
            return None;
        };
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let path = CString::new(dir.to_str()?).expect("a path");
        let options = CString::new(options).expect("options");
        // SAFETY: all are strings with their NUL, which live through the call.
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
            eprintln!("SKIPPED: cannot mount: {}", std::io::Error::last_os_error());
            return None;
        }
        Some(Self {
            dir: dir.to_owned(),
            server: Some(std::thread::spawn(move || serve(device))),
        })
    }
}

/// Ends with the file system, at which the read fails.
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
    /// Whoever waits for it is told that it is gone.
    fn drop(&mut self) {
        let path = CString::new(self.dir.to_str().expect("a path")).expect("a path");
        // SAFETY: a string with its NUL, which lives through the call.
        unsafe {
            libc::umount2(path.as_ptr(), libc::MNT_FORCE);
            libc::umount2(path.as_ptr(), libc::MNT_DETACH);
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}
