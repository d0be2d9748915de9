//! Files as qemu-img makes and checks them, whole and damaged in every way that a seed leads to.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::kernel::dev::block::tests::zero;
use crate::kernel::fs::memfs::testing::TempDir;
use crate::testing::Random;

fn qemu_img(arguments: &[&str]) {
    let done = Command::new("qemu-img").args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {done:?}");
}

fn open(path: &Path, read_only: bool) -> Result<Qcow2, BadQcow2> {
    let file = fs::File::options()
        .read(true)
        .write(!read_only)
        .open(path)
        .unwrap();
    Qcow2::open(HostFile::new(file.into()).unwrap(), read_only)
}

const SIZE: u64 = (9 << 20) + 512 * 3;

/// Change a disk and a model of it in the same way.
fn change(disk: &Qcow2, model: &mut [u8], random: &mut Random) {
    let at = random.below(SIZE - 1);
    let len = (1 + random.below(200_000)).min(SIZE - at);
    let range = at as usize..(at + len) as usize;
    if random.below(4) == 0 {
        assert!(zero(disk, at, len).is_ok());
        model[range].fill(0);
    } else {
        let bytes = vec![random.below(255) as u8 + 1; len as usize];
        assert!(disk.write(&bytes, at).is_ok());
        model[range].copy_from_slice(&bytes);
    }
}

#[test]
fn files_stay_sound() {
    let place = TempDir::new();
    let (image, plain) = (place.path().join("image"), place.path().join("plain"));
    let (image_text, plain_text) = (image.to_str().unwrap(), plain.to_str().unwrap());
    let size = SIZE.to_string();
    for (seed, options) in [
        "cluster_size=512",
        "cluster_size=4k",
        "cluster_size=64k",
        "cluster_size=2M",
        "compat=0.10,cluster_size=4k",
        "preallocation=metadata",
        "compressed",
        "compression_type=zstd,compressed",
    ]
    .into_iter()
    .enumerate()
    {
        let mut random = Random(seed as u64);
        let mut model = vec![0; SIZE as usize];
        if let Some(options) = options.strip_suffix("compressed") {
            for byte in model.iter_mut().step_by(97) {
                *byte = random.below(5) as u8;
            }
            fs::write(&plain, &model).unwrap();
            let mut arguments = vec!["convert", "-c", "-f", "raw", "-O", "qcow2"];
            let options = options.trim_end_matches(',');
            if !options.is_empty() {
                arguments.extend(["-o", options]);
            }
            arguments.extend([plain_text, image_text]);
            qemu_img(&arguments);
        } else {
            qemu_img(&["create", "-q", "-f", "qcow2", "-o", options, image_text, &size]);
        }
        let disk = open(&image, false).unwrap();
        for _ in 0..60 {
            change(&disk, &mut model, &mut random);
        }
        let mut found = vec![1; SIZE as usize];
        assert!(disk.read(&mut found, 0).is_ok());
        assert!(found == model, "{options}");
        for _ in 0..40 {
            let at = random.below(SIZE);
            let end = disk.skip_zeroes(at, (at + random.below(1 << 20)).min(SIZE));
            assert!(model[at as usize..end as usize].iter().all(|&byte| byte == 0));
        }
        drop(disk);
        qemu_img(&["check", "-q", "-f", "qcow2", image_text]);
        qemu_img(&["convert", "-f", "qcow2", "-O", "raw", image_text, plain_text]);
        assert!(fs::read(&plain).unwrap() == model, "{options}");
        // And once more what is there already.
        let disk = open(&image, true).unwrap();
        assert!(disk.read(&mut found[1000..], 1000).is_ok() && found == model);
        assert!(disk.write(&[1], 0).is_err());
    }
}

#[test]
fn what_is_not_supported_is_told() {
    let place = TempDir::new();
    let image = place.path().join("image");
    qemu_img(&["create", "-q", "-f", "qcow2", image.to_str().unwrap(), "1m"]);
    let whole = fs::read(&image).unwrap();
    let refused = |at: usize, byte: u8, read_only: bool, words: &str| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        fs::write(&image, bytes).unwrap();
        let error = open(&image, read_only).err().map(|error| error.to_string());
        assert!(
            error.as_ref().is_some_and(|error| error.contains(words)),
            "{error:?}"
        );
    };
    refused(7, 9, true, "version");
    refused(15, 1, true, "backing file");
    refused(35, 1, true, "encrypted");
    refused(79, 4, true, "another file");
    refused(79, 16, true, "extended");
    refused(79, 1, false, "was not closed");
    refused(63, 1, false, "snapshots");
    refused(99, 5, false, "width");
    refused(23, 3, true, "cluster size");
    refused(40, 1, true, "list of tables");
    refused(55, 1, true, "reference counts");
    fs::write(&image, &whole[..200]).unwrap();
    assert!(open(&image, true).is_err());
    fs::write(&image, &whole).unwrap();
    assert!(open(&image, false).is_ok());
}

/// Tables that point anywhere, also to themselves: errors for the guest, and nothing else.
#[test]
fn damaged_files_do_no_harm() {
    let place = TempDir::new();
    let image = place.path().join("image");
    let options = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k"];
    qemu_img(&[&options[..], &[image.to_str().unwrap(), "1m"]].concat());
    let disk = open(&image, false).unwrap();
    for at in 0..40 {
        assert!(disk.write(&[at as u8; 3000], at * 9000).is_ok());
    }
    drop(disk);
    let whole = fs::read(&image).unwrap();
    let used: Vec<usize> = (0..whole.len() / 8)
        .filter(|at| whole[at * 8..][..8] != [0; 8])
        .collect();
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut bytes = whole.clone();
        for _ in 0..=random.below(4) {
            let word = match random.below(3) {
                0 => used[random.below(used.len() as u64) as usize],
                _ => used[random.below(30) as usize],
            } * 8;
            match random.below(4) {
                0 => bytes[word + random.below(8) as usize] ^= 1 << random.below(8),
                1 => {
                    // Somewhere in the file, or just behind it, as the only user.
                    let at = random.below(whole.len() as u64 / 4096 + 2) * 4096;
                    bytes[word..word + 8].copy_from_slice(&(at | OWN).to_be_bytes());
                }
                2 => bytes[word..word + 8].fill(random.below(2) as u8 * 0xff),
                _ if random.below(3) == 0 => bytes.truncate(word.max(8)),
                _ => {}
            }
            if bytes.len() < whole.len() {
                break;
            }
        }
        fs::write(&image, &bytes).unwrap();
        for read_only in [true, false] {
            let Ok(disk) = open(&image, read_only) else {
                continue;
            };
            for _ in 0..20 {
                let Some(last) = disk.size().checked_sub(20_000) else {
                    break;
                };
                let at = random.below(last.clamp(1, 1 << 21));
                let _ = disk.read(&mut [0; 9000], at);
                let _ = disk.write(&[7; 9000], at);
                let _ = disk.zero(at, 12_000);
            }
        }
        assert!(fs::metadata(&image).unwrap().len() < 16 << 20);
    }
}

/// A table that is contents as well, so that a guest makes the file forget what it has: it does not grow without end.
#[test]
fn a_file_grows_no_further_than_its_disk_needs() {
    let place = TempDir::new();
    let image = place.path().join("image");
    let options = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k"];
    qemu_img(&[&options[..], &[image.to_str().unwrap(), "1m"]].concat());
    assert!(open(&image, false).unwrap().write(&[1], 0).is_ok());
    let mut bytes = fs::read(&image).unwrap();
    let word = |bytes: &[u8], at: usize| u64::from_be_bytes(*bytes[at..].first_chunk().unwrap());
    let list = word(&bytes, 40) as usize;
    let entry = word(&bytes, list);
    let table = (entry & PLACE) as usize;
    bytes[table..table + 8].copy_from_slice(&entry.to_be_bytes());
    fs::write(&image, &bytes).unwrap();
    let disk = open(&image, false).unwrap();
    let mut forget = vec![0; 4096];
    forget[..8].copy_from_slice(&entry.to_be_bytes());
    for _ in 0..2000 {
        assert!(disk.write(&forget, 0).is_ok());
        let _ = disk.write(&[1; 4096], 4096);
    }
    assert!(fs::metadata(&image).unwrap().len() < 3 << 20);
}
