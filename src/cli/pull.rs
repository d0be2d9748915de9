//! Pulling images, and showing how far that has come.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::values;
use crate::image::{self, PullOptions, Reference, Store};

/// How long nothing may come from a registry, unless the user says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// Options of `uvm image pull`.
#[derive(Args)]
#[command(after_help = "\
registries.json in ~/.config/uvm (or $XDG_CONFIG_HOME/uvm) says more of registries: \
{\"default\": HOST, \"mirrors\": {HOST: HOST}, \"insecure\": [HOST], \"ca\": {HOST: FILE}}. Names and passwords are read from docker's config.json.")]
pub(super) struct PullArgs {
    /// HOST/NAME, HOST/NAME:TAG or HOST/NAME@sha256:DIGEST; without HOST, of the default registry in registries.json
    #[arg(value_name = "REF", value_parser = values::reference)]
    name: Reference,

    /// The registry speaks plain HTTP
    #[arg(long)]
    insecure: bool,

    /// Believe the authorities whose certificates are in this PEM file as well as this machine's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,

    /// Ask this host instead
    #[arg(long, value_name = "HOST")]
    mirror: Option<String>,

    /// Give up when nothing has come for so long [default: 30]
    #[arg(long, value_name = "SECS", value_parser = values::seconds)]
    timeout: Option<Duration>,
}

/// Pull an image as the user says.
pub(super) fn run(args: PullArgs) -> Result<u8> {
    let options = PullOptions {
        insecure: args.insecure,
        mirror: args.mirror,
        authority: args.ca,
        patience: args.timeout.unwrap_or(PATIENCE),
    };
    let name = args.name;
    let digest = pull(&name, &options).with_context(|| format!("image: pull {name}"))?;
    println!("{name} sha256:{digest}");
    Ok(0)
}

/// Pull an image that is to be run and is not in the store. Without a registry in its name it is not looked for.
pub(super) fn missing(name: &Reference) -> Result<bool> {
    if name.host().0.is_none() {
        return Ok(false);
    }
    let options = PullOptions {
        insecure: false,
        mirror: None,
        authority: None,
        patience: PATIENCE,
    };
    pull(name, &options).map(|_| true)
}

/// The form of a bar, and what stands behind it.
fn style(rest: &str) -> ProgressStyle {
    let template = format!("{{msg}} {{bar:30}} {{bytes}}/{{total_bytes}}{rest}");
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn pull(name: &Reference, options: &PullOptions) -> Result<String> {
    let store = Store::open()?;
    let target = match io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bars = MultiProgress::with_draw_target(target);
    let mut known: HashMap<String, ProgressBar> = HashMap::new();
    let pulled = image::pull(&store, name, options, &mut |digest, size, done| {
        let bar = known.entry(digest.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(size));
            bar.set_style(style(" {bytes_per_sec}"));
            bar.set_message(digest.chars().take(12).collect::<String>());
            // What an earlier pull has brought says nothing of how fast this one is.
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        bar.set_position(done);
        if done == size && !bar.is_finished() {
            bar.set_style(style(""));
            bar.finish();
        }
    });
    // What is said next is not to stand behind half a line.
    known.values().for_each(ProgressBar::abandon);
    pulled
}
