//! Where instances run: the local QEMU target.
