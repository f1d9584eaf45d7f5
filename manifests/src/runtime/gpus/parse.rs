//! Parsing of the fields of a request.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::csv::record;
use super::driver::{Driver, DriverCapability};
use super::error::{GpuError, GpuFault};
use super::request::{GpuRequest, GpuSelection, SLIP};

/// Maximum count: far above any machine's number of GPUs, and small enough to be expanded to a list.
const MAX_COUNT: i64 = 1024;

impl FromStr for GpuRequest {
    type Err = GpuError;

    fn from_str(text: &str) -> Result<Self, GpuError> {
        parse(text).map_err(|fault| GpuError { text: text.to_owned(), fault })
    }
}

/// Parses a request.
fn parse(text: &str) -> Result<GpuRequest, GpuFault> {
    let mut fields = RequestFields::default();
    for (field, quoted) in record(text)? {
        fields.take(&field, quoted)?;
    }
    let gpus = match (fields.count, fields.devices.take()) {
        (None | Some(0), Some(devices)) => GpuSelection::Devices(devices),
        (Some(_), Some(_)) => return Err(GpuFault::CountAndDevices),
        (Some(count), None) => match u32::try_from(count) {
            Ok(count) if i64::from(count) <= MAX_COUNT => GpuSelection::Count(count),
            Ok(_) => return Err(GpuFault::TooMany(count)),
            Err(_) if count > 0 => return Err(GpuFault::TooMany(count)),
            Err(_) => GpuSelection::All,
        },
        (None, None) => GpuSelection::Count(1),
    };
    let RequestFields { capabilities, driver, options, slip, .. } = fields;
    Ok(GpuRequest { gpus, capabilities, driver, options, slip })
}

/// A list that bare fields continue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OpenList {
    Devices,
    Capabilities,
}

/// The fields so far.
#[derive(Default)]
struct RequestFields {
    seen: Vec<String>,
    /// The list of the previous field, if it is unquoted.
    open: Option<OpenList>,
    count: Option<i64>,
    devices: Option<Vec<String>>,
    capabilities: Vec<DriverCapability>,
    driver: Option<Driver>,
    options: BTreeMap<String, String>,
    slip: bool,
}

impl RequestFields {
    fn take(&mut self, field: &str, quoted: bool) -> Result<(), GpuFault> {
        let Some((key, value)) = field.split_once('=') else {
            return self.bare(field);
        };
        // No key has a slash, but the kind of a CDI device has one.
        if self.open == Some(OpenList::Devices) && key.contains('/') {
            return self.device(field);
        }
        self.once(key)?;
        self.open = None;
        match key {
            "driver" => self.driver = driver(value)?,
            "count" => self.count = Some(count(value)?),
            "device" => {
                value.split(',').try_for_each(|device| self.device(device))?;
                self.open = Some(OpenList::Devices).filter(|_| !quoted);
            }
            "capabilities" => {
                value.split(',').try_for_each(|name| self.capability(name))?;
                self.open = Some(OpenList::Capabilities).filter(|_| !quoted);
            }
            "options" => self.options = options(value)?,
            _ => return Err(GpuFault::Key(key.to_owned())),
        }
        Ok(())
    }

    /// A field without `=`: an element of an open list, or a count.
    fn bare(&mut self, field: &str) -> Result<(), GpuFault> {
        if field.is_empty() {
            return Err(GpuFault::Empty);
        }
        let is_count = count(field).is_ok() && !self.seen.iter().any(|seen| seen == field);
        match self.open {
            Some(OpenList::Devices) if field != "all" => return self.device(field),
            Some(OpenList::Capabilities) if !is_count => return self.capability(field),
            _ => self.open = None,
        }
        self.once(field)?;
        self.count = Some(count(field)?);
        self.seen.push("count".to_owned());
        Ok(())
    }

    fn once(&mut self, key: &str) -> Result<(), GpuFault> {
        if self.seen.iter().any(|seen| seen == key) {
            return Err(GpuFault::Twice(key.to_owned()));
        }
        self.seen.push(key.to_owned());
        Ok(())
    }

    fn device(&mut self, device: &str) -> Result<(), GpuFault> {
        let inside = device.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/=".contains(&b));
        if !inside || !device.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(GpuFault::Device(device.to_owned()));
        }
        let devices = self.devices.get_or_insert_default();
        if !devices.iter().any(|have| have == device) {
            devices.push(device.to_owned());
        }
        Ok(())
    }

    fn capability(&mut self, name: &str) -> Result<(), GpuFault> {
        // Docker's words for any GPU and for NVIDIA's; they select the driver, and only one is supported here.
        if matches!(name, "gpu" | "nvidia") {
            return Ok(());
        }
        self.slip |= name == SLIP;
        let named = if name == SLIP { Some(DriverCapability::Utility) } else { DriverCapability::named(name) };
        let capability = named.ok_or_else(|| GpuFault::Capability(name.to_owned()))?;
        if !self.capabilities.contains(&capability) {
            self.capabilities.push(capability);
        }
        Ok(())
    }
}

fn count(text: &str) -> Result<i64, GpuFault> {
    match text {
        "all" => Ok(-1),
        "none" => Ok(0),
        number => number.parse().map_err(|_| GpuFault::Count(number.to_owned())),
    }
}

fn driver(name: &str) -> Result<Option<Driver>, GpuFault> {
    if name.is_empty() {
        return Ok(None);
    }
    let index = Driver::NAMES.iter().position(|known| *known == name);
    index.map(|index| Some(Driver::VALUES[index])).ok_or_else(|| GpuFault::Driver(name.to_owned()))
}

fn options(text: &str) -> Result<BTreeMap<String, String>, GpuFault> {
    let fields = record(text)?.into_iter();
    Ok(fields
        .map(|(field, _)| {
            let (key, value) = field.split_once('=').unwrap_or((&field, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect())
}
