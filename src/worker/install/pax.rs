//! Reads the records of extended headers of pax and Solaris: `<length> <key>=<value>\n`, where the length in decimal counts the
//! whole record. A value may hold any byte, so only the lengths tell where a record ends. Pure.

use crate::worker::install::header::{decimal, text};
use crate::worker::install::sparse::{BAD_MAP, Map};

/// Bytes. Extended attributes make it large; a file system limits one of them to 64 KB.
pub(super) const LIMIT: usize = 1 << 20;

/// The records of an entry, or, from a global header, of all entries after it. An empty value takes a record back.
#[derive(Clone, Default, Debug)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    /// The name of a sparse file, whose `path` is another one.
    pub sparse_name: Option<Vec<u8>>,
    pub map: Map,
}

impl Records {
    /// Adds records, of which the last one with a key counts.
    pub fn add(&mut self, mut body: &[u8]) -> Result<(), &'static str> {
        // Some programs fill the body up with zeros.
        while body.first().is_some_and(|byte| *byte != 0) {
            let (key, value, rest) =
                split(body).ok_or("a record of its extended header is malformed")?;
            self.set(key, value)?;
            body = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match str::from_utf8(key).unwrap_or_default() {
            "path" => self.path = text_of(value),
            "linkpath" => self.link = text_of(value),
            "size" => self.size = number_of(value)?,
            "GNU.sparse.name" => self.sparse_name = text_of(value),
            "GNU.sparse.size" | "GNU.sparse.realsize" => self.map.size = number_of(value)?,
            "GNU.sparse.major" => self.map.major = number_of(value)?,
            "GNU.sparse.minor" => self.map.minor = number_of(value)?,
            "GNU.sparse.offset" | "GNU.sparse.numbytes" | "GNU.sparse.map" => {
                self.map.add_list(value).ok_or(BAD_MAP)?;
            }
            // Read as a plain file it would have other content.
            "SUN.holesdata" => return Err("sparse files of Solaris are not supported"),
            _ => {}
        }
        Ok(())
    }
}

fn text_of(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| text(value).to_vec())
}

fn number_of(value: &[u8]) -> Result<Option<u64>, &'static str> {
    match value {
        b"" => Ok(None),
        _ => Ok(Some(
            decimal(value).ok_or("a number in its extended header is wrong")?,
        )),
    }
}

/// Returns key and value of the first record, and the records after it.
fn split(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = body.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&body[..blank])?).ok()?;
    let (b'\n', record) = body.get(blank + 1..length)?.split_last()? else {
        return None;
    };
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &body[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Result<Records, &'static str> {
        let mut records = Records::default();
        records.add(body).map(|()| records)
    }

    fn path(body: &[u8]) -> Option<Vec<u8>> {
        read(body).expect("good records").path
    }

    /// Returns records of which each is `key=value`.
    fn records(records: &[&str]) -> Vec<u8> {
        let records = records.iter().map(|record| {
            let rest = record.len() + 2;
            let mut lengths = rest + 1..rest + 5;
            let length = lengths.find(|all| rest + all.to_string().len() == *all);
            format!("{} {record}\n", length.expect("there is one"))
        });
        records.collect::<String>().into_bytes()
    }

    #[test]
    fn records_are_walked_by_their_length() {
        for (wanted, body) in [
            (
                Some("name"),
                records(&["SCHILY.xattr.a=1\n9 path=x\n", "path=name"]),
            ),
            (
                Some("name"),
                records(&["path=name", "SCHILY.xattr.a=1\n9 path=x\n"]),
            ),
            (None, records(&["SCHILY.xattr.a=\n9 path=x\n"])),
            (Some("a\nb="), records(&["path=a\nb="])),
            (None, records(&["comment=9 path=x"])),
            (Some("a"), records(&["path=a\0b"])),
        ] {
            let wanted = wanted.map(|path| path.as_bytes().to_vec());
            assert_eq!(path(&body), wanted, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn the_last_record_counts_and_an_empty_one_takes_it_back() {
        assert_eq!(path(&records(&["path=a", "path=b"])), Some(b"b".to_vec()));
        assert_eq!(path(&records(&["path=a", "path="])), None);
        let size = read(&records(&["size=5", "size="])).expect("good records");
        assert_eq!(size.size, None);
    }

    #[test]
    fn zeros_after_the_records_are_ignored() {
        assert_eq!(path(b"9 path=a\n\0\0\0"), Some(b"a".to_vec()));
        assert_eq!(path(b""), None);
    }

    #[test]
    fn malformed_records_are_refused() {
        for body in [
            &b"path=x\n"[..],
            b"11 path=x\n",
            b"8 path=x\n",
            b"8 pathx\n",
            b"0 path=x\n",
            b"1 path=x\n",
            b"-9 path=x\n",
            b" 10 path=x\n",
            b"99999999999999999999999 path=x\n",
            b"9 path=x\n9",
            b"9",
        ] {
            let refusal = read(body).expect_err("a bad record");
            assert!(refusal.contains("malformed"), "{refusal}");
        }
    }

    #[test]
    fn bad_values_are_refused() {
        for record in [
            "size=5x",
            "size=0x5",
            "size=-1",
            "size=99999999999999999999",
            "SUN.holesdata= 0",
            "GNU.sparse.map=",
            "GNU.sparse.major=a",
        ] {
            read(&records(&[record])).expect_err(record);
        }
    }

    #[test]
    fn the_forms_0_0_and_0_1_of_sparse_files_are_the_same_map() {
        let old = records(&[
            "GNU.sparse.size=2000",
            "GNU.sparse.numblocks=2",
            "GNU.sparse.offset=5",
            "GNU.sparse.numbytes=512",
            "GNU.sparse.offset=1000",
            "GNU.sparse.numbytes=1",
        ]);
        let new = records(&["GNU.sparse.size=2000", "GNU.sparse.map=5,512,1000,1"]);
        let [old, new] = [old, new].map(|body| {
            let records = read(&body).expect("good records");
            records.map
        });
        assert_eq!(old, new);
        assert_eq!(new.checked_size(513), Some(2000));
    }
}
