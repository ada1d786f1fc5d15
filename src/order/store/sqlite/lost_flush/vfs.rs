//! A SQLite VFS over the machine's own that tells a [`Disk`] of all that is written. The only unsafe file here.
//!
//! A file of it is a [`Head`] and behind it, in the same piece of memory, the file of the VFS below. Flushes go to the
//! disk only, not to the machine: they take no time.

use std::{
    ffi::{CStr, CString, OsStr, c_char, c_int, c_void},
    mem::size_of,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    ptr::{null, null_mut},
    sync::Arc,
};

use rusqlite::ffi::{
    self, SQLITE_IOERR, SQLITE_OK, SQLITE_OPEN_MAIN_DB, SQLITE_OPEN_MAIN_JOURNAL, SQLITE_OPEN_WAL, sqlite3_file,
    sqlite3_io_methods, sqlite3_vfs,
};

use super::disk::Disk;

/// Files that a power cut concerns.
const LASTING: c_int = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL;
/// Where the file of the VFS below begins.
const BELOW: usize = size_of::<Head>().next_multiple_of(16);

#[repr(C)]
struct Head {
    methods: *const sqlite3_io_methods,
    /// Of a file that a power cut concerns; owned by the open file.
    tracked: *mut Tracked,
}

struct Tracked {
    disk: Arc<Disk>,
    path: PathBuf,
}

/// What `pAppData` of a registered VFS points to; never freed, as the VFS is not.
struct Registered {
    below: *mut sqlite3_vfs,
    disk: Arc<Disk>,
}

/// Makes `disk` a VFS that connections can be opened on by `name`. It stays for as long as the process runs.
pub fn register(name: &str, disk: Arc<Disk>) {
    let name = CString::new(name).expect("a name without zeros");
    // SAFETY: `find(null)` gives the default VFS, which is there for as long as the process runs. Its methods take their
    // own VFS only in `xOpen`, which is called with it. What is registered is leaked and so lives as long.
    unsafe {
        assert_eq!(ffi::sqlite3_initialize(), SQLITE_OK);
        let below = ffi::sqlite3_vfs_find(null());
        assert!(!below.is_null(), "there is a default VFS");
        let mut vfs: sqlite3_vfs = std::ptr::read(below);
        vfs.szOsFile += c_int::try_from(BELOW).expect("a head is small");
        vfs.pNext = null_mut();
        vfs.zName = name.into_raw();
        vfs.pAppData = Box::into_raw(Box::new(Registered { below, disk })).cast();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        assert_eq!(ffi::sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0), SQLITE_OK);
    }
}

// Version 2: with shared memory, without mapping of the file, so that every write comes through `write`.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// SAFETY: for all below: SQLite calls them with what `open` filled in, from `open` to `close`, with pointers good for
/// as many bytes as it says; `vfs` is one that `register` made.
unsafe fn registered<'a>(vfs: *mut sqlite3_vfs) -> &'a Registered {
    unsafe { &*(*vfs).pAppData.cast::<Registered>() }
}

unsafe fn tracked<'a>(file: *mut sqlite3_file) -> Option<&'a Tracked> {
    unsafe { (*file.cast::<Head>()).tracked.as_ref() }
}

unsafe fn below(file: *mut sqlite3_file) -> *mut sqlite3_file {
    unsafe { file.cast::<u8>().add(BELOW).cast() }
}

unsafe fn path_of<'a>(name: *const c_char) -> &'a Path {
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}

/// Calls a method of the file below.
macro_rules! pass_on {
    ($method:ident, $file:expr $(, $argument:expr)*) => {{
        let below = below($file);
        match (*(*below).pMethods).$method {
            Some(method) => method(below $(, $argument)*),
            None => SQLITE_IOERR,
        }
    }};
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    opened: *mut c_int,
) -> c_int {
    unsafe {
        let Registered { below: machine, disk } = registered(vfs);
        let head = file.cast::<Head>();
        (*head).methods = null();
        (*head).tracked = null_mut();
        let path = (!name.is_null() && flags & LASTING != 0).then(|| path_of(name));
        let was_there = path.is_some_and(Path::exists);
        let Some(open_below) = (**machine).xOpen else { return SQLITE_IOERR };
        let code = open_below(*machine, name, below(file), flags, opened);
        if code != SQLITE_OK {
            return code;
        }
        (*head).methods = &raw const METHODS;
        if let Some(path) = path {
            disk.opened(path, was_there);
            (*head).tracked = Box::into_raw(Box::new(Tracked { disk: disk.clone(), path: path.to_owned() }));
        }
        SQLITE_OK
    }
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, flush: c_int) -> c_int {
    unsafe {
        let Registered { below, disk } = registered(vfs);
        let Some(delete_below) = (**below).xDelete else { return SQLITE_IOERR };
        let code = delete_below(*below, name, 0);
        if code == SQLITE_OK {
            disk.deleted(path_of(name), flush != 0);
        }
        code
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    unsafe {
        let head = file.cast::<Head>();
        let tracked = std::mem::replace(&mut (*head).tracked, null_mut());
        if !tracked.is_null() {
            drop(Box::from_raw(tracked));
        }
        pass_on!(xClose, file)
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, len: c_int, at: i64) -> c_int {
    unsafe {
        let code = pass_on!(xWrite, file, from, len, at);
        if let (SQLITE_OK, Some(Tracked { disk, path })) = (code, tracked(file)) {
            disk.wrote(path, at as usize, std::slice::from_raw_parts(from.cast(), len as usize));
        }
        code
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, len: i64) -> c_int {
    unsafe {
        let code = pass_on!(xTruncate, file, len);
        if let (SQLITE_OK, Some(Tracked { disk, path })) = (code, tracked(file)) {
            disk.truncated(path, len as usize);
        }
        code
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    unsafe {
        match tracked(file) {
            Some(Tracked { disk, path }) => disk.flushed(path),
            None => return pass_on!(xSync, file, flags),
        }
        SQLITE_OK
    }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, to: *mut c_void, len: c_int, at: i64) -> c_int {
    unsafe { pass_on!(xRead, file, to, len, at) }
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut i64) -> c_int {
    unsafe { pass_on!(xFileSize, file, size) }
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    unsafe { pass_on!(xLock, file, level) }
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    unsafe { pass_on!(xUnlock, file, level) }
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, reserved: *mut c_int) -> c_int {
    unsafe { pass_on!(xCheckReservedLock, file, reserved) }
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, what: c_int, with: *mut c_void) -> c_int {
    unsafe { pass_on!(xFileControl, file, what, with) }
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    unsafe { pass_on!(xSectorSize, file) }
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    unsafe { pass_on!(xDeviceCharacteristics, file) }
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    at: *mut *mut c_void,
) -> c_int {
    unsafe { pass_on!(xShmMap, file, page, size, extend, at) }
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, offset: c_int, n: c_int, flags: c_int) -> c_int {
    unsafe { pass_on!(xShmLock, file, offset, n, flags) }
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    unsafe {
        let below = below(file);
        if let Some(barrier) = (*(*below).pMethods).xShmBarrier {
            barrier(below);
        }
    }
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    unsafe { pass_on!(xShmUnmap, file, delete) }
}
