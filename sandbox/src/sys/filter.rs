//! seccomp(2) without a listener.

use std::io;

use crate::step::Instruction;

/// Installs a filter for this thread, permanently.
///
/// # Errors
/// The kernel's. `EACCES` without `no_new_privs` and CAP_SYS_ADMIN.
pub(crate) fn install(program: &[Instruction], flags: u32) -> io::Result<()> {
    let mut program: Vec<libc::sock_filter> = program
        .iter()
        .map(|one| libc::sock_filter { code: one.code, jt: one.then, jf: one.otherwise, k: one.value })
        .collect();
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| io::ErrorKind::ArgumentListTooLong)?;
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the kernel reads `len` instructions, which outlive the call, and checks them. A filtered system call
    // returns an error that other code of this process must handle anyway.
    #[allow(unsafe_code, reason = "no binding is safe")]
    let refused = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
