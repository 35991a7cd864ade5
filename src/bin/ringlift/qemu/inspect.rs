//! `ringlift qemu inspect`.

use crate::args::Inspect;
use crate::exit::Exit;
use crate::warnings;

/// Not there yet.
pub(crate) fn run(_args: &Inspect) -> Exit {
    warnings::failure("qemu inspect is not there yet", None);
    Exit::Failed
}
