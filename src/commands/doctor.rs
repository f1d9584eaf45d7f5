//! `ociforge doctor`

use ociforge_manifests::{Image, Platform};
use serde_json::json;

use super::Context;
use crate::cli::{self, DoctorArgs, Format};
use crate::doctor::{self, CheckResult, CheckStatus, DoctorPaths, MachineFacts};
use crate::error::{Failure, printable};
use crate::registry::Settings;
use crate::transport::ImageSourceError;

pub(super) async fn run(context: &Context, args: &DoctorArgs) -> Result<(), Failure> {
    let driver = cli::driver_version(args.driver_version.as_deref())?;
    let settings = Settings::from_env();
    let chosen = context.global.authfile.clone().or(settings.authfile);
    let credentials = chosen.map_or(settings.auth_search, |file| vec![file]);
    let places = DoctorPaths { store: context.store_path()?, credentials };
    let facts = tokio::task::block_in_place(|| doctor::gather(&places));
    let mut checks = doctor::judge(&facts);
    if let Some(name) = &args.image {
        let image = image(context, name, args.platform.as_ref(), &facts).await?;
        checks.extend(doctor::judge_image(&image, &facts, driver.as_ref()));
    }
    match args.format {
        Format::Text => cli::raw_result(shown(&checks).as_bytes())?,
        Format::Json => cli::result(&format!("{:#}", json!({ "checks": checks })))?,
    }
    let missing: Vec<_> = checks.iter().filter(|check| check.status == CheckStatus::Missing).collect();
    let names: Vec<_> = missing.iter().map(|check| check.name.as_str()).collect();
    match names.as_slice() {
        [] => Ok(()),
        names => Err(Failure::new(format!("this machine cannot run containers: {}", names.join(", ")))),
    }
}

/// The table of checks, with colours on a terminal that supports them.
fn shown(checks: &[CheckResult]) -> String {
    // File names and the output of programs may contain control characters.
    let safe = checks.iter().map(|check| CheckResult { found: printable(&check.found), ..check.clone() });
    doctor::table(&safe.collect::<Vec<_>>(), console::colors_enabled())
}

/// The image for this machine's platform, or else the only image of the name.
async fn image(
    context: &Context,
    name: &str,
    platform: Option<&Platform>,
    facts: &MachineFacts,
) -> Result<Image, Failure> {
    let located = context.find_image(name).await?;
    let own = match facts.machine.architecture.as_str() {
        "aarch64" => "linux/arm64",
        _ => "linux/amd64",
    };
    let own: Platform = own.parse().unwrap_or_default();
    match located.image(platform.unwrap_or(&own)).await {
        Err(ImageSourceError::Platform { have, .. }) if platform.is_none() && have.len() == 1 => {
            let only = have.first().and_then(|only| only.parse().ok()).unwrap_or(own);
            Ok(located.image(&only).await?)
        }
        image => Ok(image?),
    }
}
