//! `ringlift qemu extract`.

use crate::args::Extract;
use crate::exit::Exit;
use crate::warnings;

/// Not there yet.
pub(crate) fn run(_args: &Extract) -> Exit {
    warnings::failure("qemu extract is not there yet", None);
    Exit::Failed
}
