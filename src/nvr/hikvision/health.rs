//! How a recorder is: its disks, and how far its clock is off by now.

use super::Hikvision;
use super::clock;
use super::discovery::shown;
use super::xml::Element;
use crate::nvr::{Disk, Health, RecorderError};

/// Disks of a recorder, at most: several times what the largest have.
const MOST_DISKS: usize = 64;

impl Hikvision {
    /// Asked anew each time; what it does not tell is left out.
    pub(super) async fn ask_health(&self) -> Result<Health, RecorderError> {
        let (_, abilities) = self.known().await?;
        let time = self.optional("System/time").await?;
        let ahead = time.and_then(|root| clock::told_ahead(abilities.clock.zone(), &root));
        let storage = self.optional("ContentMgmt/Storage").await?.unwrap_or_default();
        Ok(Health { ahead, disks: disks(&storage) })
    }
}

fn disks(storage: &Element) -> Vec<Disk> {
    let list = storage.at(&["hddList"]);
    let all = list.iter().flat_map(|list| list.all("hdd")).take(MOST_DISKS);
    let disk = |of: &Element| {
        let name = of.text(&["hddName"]).or(of.text(&["id"])).map(shown).unwrap_or_default();
        let status = of.text(&["status"]).map(shown).unwrap_or_default();
        Disk { name, status, capacity_mib: of.number(&["capacity"]), free_mib: of.number(&["freeSpace"]) }
    };
    all.map(disk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_those_of_the_list() {
        let root = Element::read(
            b"<storage><hddList size='2'><hdd><id>1</id><hddName>hdd1</hddName><status>ok</status>\
              <capacity>1907729</capacity><freeSpace>0</freeSpace></hdd><hdd><id>2</id><status>error</status></hdd>\
              </hddList><nasList/></storage>",
        );
        let disks = disks(&root.unwrap());
        let disk = |name: &str, status: &str, capacity_mib, free_mib| Disk {
            name: name.into(),
            status: status.into(),
            capacity_mib,
            free_mib,
        };
        assert_eq!(disks, [disk("hdd1", "ok", Some(1_907_729), Some(0)), disk("2", "error", None, None)]);
        assert!(disks[0].is_well() && !disks[1].is_well());
        assert_eq!(super::disks(&Element::default()), []);
    }
}
