//! A small disk of its own (a tmpfs), for whom the machine lets mount one.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
};

use crate::support::{scratch::Scratch, server::Plan};

pub struct SmallDisk {
    folder: Scratch,
}

impl SmallDisk {
    pub fn mount(mib: u64) -> io::Result<Self> {
        let folder = Scratch::new("disk");
        let (target, kind) = (path(&folder), CString::new("tmpfs").expect("no zeros"));
        let options = CString::new(format!("size={mib}m")).expect("no zeros");
        // SAFETY: all pointers are C strings that live until the call returns.
        let mounted = unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
        if mounted == 0 { Ok(Self { folder }) } else { Err(io::Error::last_os_error()) }
    }

    /// All data of the server on this disk.
    pub fn plan(&self, plan: Plan) -> Plan {
        let at = |name: &str| self.folder.join(name).to_str().expect("a path in UTF-8").to_owned();
        plan.set("STORE__PATH", &at("store")).set("TAPE__PATH", &at("tape"))
    }

    /// Fills it until only so much is free.
    pub fn fill_up_to(&self, free_kib: u64) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).expect("the disk can be written");
        let block = [1; 4096];
        while self.free_kib() > free_kib {
            file.write_all(&block).expect("there is room for one more block");
        }
    }

    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("the disk was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    fn free_kib(&self) -> u64 {
        let folder = path(&self.folder);
        let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `folder` is a C string and `found` has room for what is written when 0 is returned.
        let found = unsafe {
            assert_eq!(libc::statvfs(folder.as_ptr(), found.as_mut_ptr()), 0, "the disk can be asked");
            found.assume_init()
        };
        found.f_bavail as u64 * found.f_frsize as u64 / 1024
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // SAFETY: `target` is a C string that lives until the call returns. Files that are still open keep the disk alive.
        unsafe { libc::umount2(path(&self.folder).as_ptr(), libc::MNT_DETACH) };
    }
}

fn path(folder: &Scratch) -> CString {
    CString::new(folder.path().as_os_str().as_bytes()).expect("a path without zeros")
}
