//! This host's kernel reported an error: io_uring, memory, sockets, threads. Knows nothing of what the operation was
//! for; the advice follows from operation and errno alone.

use std::fmt;

use nix::errno::Errno as Name;

use super::Errno;

/// This host's kernel reported an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed: {errno}")]
pub struct KernelError {
    /// What was attempted.
    pub operation: KernelOperation,
    /// The kernel's error number.
    pub errno: Errno,
}

/// What this host's kernel was asked to do. An operation's number is the end of its error's code, so it is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum KernelOperation {
    /// Makes a socket.
    Socket = 1,
    /// Listens on an address.
    Listen = 2,
    /// Accepts a connection.
    Accept = 3,
    /// Connects to a receiver.
    Connect = 4,
    /// Connects to a QEMU that waits for a migration.
    ConnectToQemu = 5,
    /// Sets a connection's options.
    SetOptions = 6,
    /// Sets a connection's congestion control.
    SetCongestion = 7,
    /// Makes a socket return instead of waiting.
    SetNonBlocking = 8,
    /// Makes a second descriptor.
    Duplicate = 9,
    /// Asks for a socket's own address.
    LocalAddress = 10,
    /// Finds a socket that was handed over.
    FindSocket = 11,
    /// Sends the first bytes of a connection.
    Send = 12,
    /// Asks how many sent bytes the peer's kernel has not acknowledged.
    Unconfirmed = 13,
    /// Waits for a descriptor.
    Poll = 14,
    /// Makes an epoll instance.
    EpollCreate = 15,
    /// Tells epoll what to wait for.
    EpollControl = 16,
    /// Waits for any of many descriptors.
    EpollWait = 17,
    /// Makes the eventfd that wakes a ring.
    EventFd = 18,
    /// Starts a thread.
    StartThread = 19,
    /// Needs a thread that has ended already.
    KeepThread = 20,
    /// Leaves signals to the program's own threads.
    BlockSignals = 21,
    /// Reads random bytes.
    Random = 22,
    /// Makes an io_uring.
    RingSetup = 23,
    /// Finds what io_uring can do here.
    RingFeatures = 24,
    /// Waits for an io_uring.
    RingEnter = 25,
    /// Pins the buffer pool.
    RegisterPool = 26,
    /// Makes the buffer pool.
    MapPool = 27,
    /// Makes a file in memory.
    MemoryFile = 28,
    /// Writes a file in memory.
    WriteMemoryFile = 29,
    /// Seeks to the beginning of a file in memory.
    RewindMemoryFile = 30,
    /// Writes what was received.
    Write = 31,
    /// Provides memory for every page of the buffer pool.
    PopulatePool = 32,
    /// Asks for a connection's options.
    ReadOptions = 33,
}

impl fmt::Display for KernelOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KernelOperation::Socket => "socket",
            KernelOperation::Listen => "listen",
            KernelOperation::Accept => "accept",
            KernelOperation::Connect | KernelOperation::ConnectToQemu => "connect",
            KernelOperation::SetOptions => "setsockopt",
            KernelOperation::SetCongestion => "setsockopt(TCP_CONGESTION)",
            KernelOperation::SetNonBlocking => "fcntl(O_NONBLOCK)",
            KernelOperation::Duplicate => "fcntl(F_DUPFD_CLOEXEC)",
            KernelOperation::LocalAddress => "getsockname",
            KernelOperation::FindSocket => "find a socket",
            KernelOperation::Send => "send",
            KernelOperation::Unconfirmed => "ioctl(SIOCOUTQ)",
            KernelOperation::Poll => "poll",
            KernelOperation::EpollCreate => "epoll_create1",
            KernelOperation::EpollControl => "epoll_ctl",
            KernelOperation::EpollWait => "epoll_wait",
            KernelOperation::EventFd => "eventfd",
            KernelOperation::StartThread => "start a thread",
            KernelOperation::KeepThread => "keep a thread",
            KernelOperation::BlockSignals => "pthread_sigmask",
            KernelOperation::Random => "getrandom",
            KernelOperation::RingSetup => "io_uring_setup",
            KernelOperation::RingFeatures => "finding io_uring's operations",
            KernelOperation::RingEnter => "io_uring_enter",
            KernelOperation::RegisterPool => "registering the buffer pool",
            KernelOperation::MapPool => "mapping the buffer pool",
            KernelOperation::MemoryFile => "memfd_create",
            KernelOperation::WriteMemoryFile => "write to a memfd",
            KernelOperation::RewindMemoryFile => "rewind a memfd",
            KernelOperation::Write => "write",
            KernelOperation::PopulatePool => "providing the buffer pool's memory",
            KernelOperation::ReadOptions => "getsockopt",
        })
    }
}

const NEWER: &str = "ringlift needs Linux 5.11 or later, and 6.1 or later to be fast: boot a newer kernel";

impl KernelError {
    /// `operation` failed with `errno`.
    pub fn new(operation: KernelOperation, errno: impl Into<Errno>) -> KernelError {
        KernelError { operation, errno: errno.into() }
    }

    pub(crate) fn hint(&self) -> Option<&'static str> {
        use KernelOperation::{
            Connect, ConnectToQemu, EpollControl, EpollCreate, EpollWait, EventFd, Listen, MapPool, Poll,
            PopulatePool, ReadOptions, RegisterPool, RingEnter, RingFeatures, RingSetup, SetCongestion,
            SetOptions, StartThread,
        };
        Some(match (self.operation, Name::from_raw(self.errno.raw())) {
            (Listen, Name::EADDRINUSE) => "another program has this port: choose another one, or stop it",
            (Listen, Name::EADDRNOTAVAIL) => "no interface of this host has this address",
            (Listen, Name::EACCES) => "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one",
            (Connect, Name::ECONNREFUSED) => "check that a receiver is listening there",
            (ConnectToQemu, Name::ECONNREFUSED) => {
                "check that a QEMU started with -incoming waits there; it takes one migration, and then no more"
            }
            (Connect | ConnectToQemu, Name::ENETUNREACH | Name::EHOSTUNREACH) => {
                "no route leads there: check the address"
            }
            (Connect | ConnectToQemu, Name::ETIMEDOUT) => {
                "no host answers there: check the address and the firewalls between"
            }
            (Connect | ConnectToQemu, Name::EADDRNOTAVAIL) => "no local port is free for this address",
            (SetCongestion, Name::EPERM) => {
                "without CAP_NET_ADMIN only those in /proc/sys/net/ipv4/tcp_allowed_congestion_control are allowed"
            }
            (SetCongestion, _) => {
                "/proc/sys/net/ipv4/tcp_available_congestion_control lists the names that this kernel knows now"
            }
            (ReadOptions | SetOptions, Name::ENOTSOCK | Name::EPROTOTYPE) => {
                "a session needs connected stream sockets"
            }
            (RingFeatures, _) | (RingSetup, Name::ENOSYS) => NEWER,
            (RingSetup, Name::EPERM | Name::EACCES) => {
                "io_uring is disabled on this host: set the sysctl kernel.io_uring_disabled to 0, or allow io_uring in the container's seccomp profile"
            }
            (
                RingEnter | EpollCreate | EpollControl | EpollWait | EventFd | Poll | ReadOptions
                | SetOptions,
                Name::EPERM | Name::EACCES | Name::ENOSYS,
            ) => "something denies this process the call: allow it in the seccomp profile",
            (RingSetup, Name::ENOMEM) => "raise RLIMIT_MEMLOCK (ulimit -l), or free memory",
            (RegisterPool, _) => {
                "raise RLIMIT_MEMLOCK (ulimit -l) above the size of the pool, or use a smaller pool"
            }
            (MapPool | PopulatePool, _) => "this host has too little memory for the pool: use a smaller pool",
            (StartThread, _) => {
                "every device needs a thread: raise RLIMIT_NPROC (ulimit -u) or the container's limit of processes"
            }
            (_, Name::EMFILE | Name::ENFILE) => "raise the limit of open files (ulimit -n)",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_from_operation_and_errno() {
        let hint = |operation, errno: Name| KernelError::new(operation, errno).hint().unwrap_or("");
        assert!(hint(KernelOperation::RingSetup, Name::EPERM).contains("kernel.io_uring_disabled"));
        assert!(hint(KernelOperation::RingSetup, Name::ENOSYS).contains("Linux 5.11"));
        assert!(hint(KernelOperation::RingSetup, Name::EMFILE).contains("ulimit -n"));
        assert!(hint(KernelOperation::SetCongestion, Name::ENOENT).contains("tcp_available"));
        assert!(hint(KernelOperation::ConnectToQemu, Name::ECONNREFUSED).contains("-incoming"));
        assert!(hint(KernelOperation::RingEnter, Name::EPERM).contains("seccomp"));
        assert_eq!(hint(KernelOperation::EventFd, Name::ENOMEM), "");
    }
}
