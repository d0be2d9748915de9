//! Compiles the guest runtime into a program of its own, which `uvm` embeds.

#[path = "build/marshal.rs"]
mod marshal;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

fn main() {
    let sources = Path::new("guest-runtime/src");
    println!("cargo:rerun-if-changed={}", sources.display());
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let rustc = env::var("RUSTC").expect("cargo sets RUSTC");
    let table = Path::new(&out).join("marshal_table.rs");
    fs::write(&table, marshal::table()).expect("cargo gives a directory to write to");
    let status = Command::new(rustc)
        .env("UVM_MARSHAL_TABLE", &table)
        .arg(sources.join("lib.rs"))
        .args([
            "--crate-name",
            "guest_runtime",
            "--crate-type",
            "bin",
            "--edition",
            "2024",
            "--cfg",
            "uvm_runtime",
        ])
        .args([
            "-O",
            "-C",
            "panic=abort",
            // Else the linker may find nothing that refers to some unit's assembly, and leave that out.
            "-C",
            "codegen-units=1",
            "-C",
            "relocation-model=pic",
            "-C",
            "force-unwind-tables=no",
            // All in one object: the linker leaves out objects that nobody refers to, and assembly is found by its symbols.
            "-C",
            "codegen-units=1",
        ])
        .args([
            "-C",
            "link-arg=-nostartfiles",
            "-C",
            "link-arg=-nostdlib",
            "-C",
            "link-arg=-static-pie",
        ])
        .args([
            "-C",
            "link-arg=-Wl,--build-id=none,-z,noexecstack,-z,max-page-size=4096",
        ])
        .arg("-o")
        .arg(Path::new(&out).join("guest-runtime"))
        .status()
        .expect("the compiler that builds uvm can be run again");
    assert!(status.success(), "the guest runtime did not compile");
    build_vdso(Path::new(&out));
}

/// The guests' vDSO, by the C compiler that links everything else too.
fn build_vdso(out: &Path) {
    let sources = Path::new("guest-runtime/vdso");
    println!("cargo:rerun-if-changed={}", sources.display());
    let status = Command::new("cc")
        .args(["-shared", "-nostdlib", "-nostartfiles"])
        .arg("-Wl,-soname=linux-vdso.so.1,--hash-style=both,--build-id=none,--eh-frame-hdr,-Bsymbolic")
        .arg("-Wl,-z,max-page-size=4096,-z,noexecstack,-T")
        .arg(sources.join("vdso.lds"))
        .arg("-o")
        .arg(out.join("vdso.so"))
        .arg(sources.join("vdso.S"))
        .status()
        .expect("the C compiler `cc` can be run");
    assert!(status.success(), "the vDSO did not link");
}
