//! The driver, over an archive in memory that counts what it is asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::*;
use crate::archive::{Archive, Copy, Found, Lack, Wanted};
use crate::caching::Cache;
use crate::chronicle::Listed;
use crate::layout::Resource;
use crate::source::ChannelName;

/// What there is, by path, and how often it was asked for.
#[derive(Debug, Default)]
struct Memory {
    objects: Mutex<BTreeMap<String, (Bytes, usize)>>,
    /// How long each answer takes.
    takes: Duration,
}

#[async_trait]
impl Archive for Memory {
    fn peek(&self, _: Wanted<'_>) -> Option<Found> {
        None
    }

    async fn fetch(&self, wanted: Wanted<'_>) -> Found {
        let path = wanted.resource.path(wanted.channel);
        sleep(self.takes).await;
        let mut objects = self.objects.lock().unwrap();
        let (data, asked) = objects.get_mut(&path).ok_or(Lack::Absent)?;
        *asked += 1;
        Ok(Arc::new(Copy::new(wanted.resource, data.clone(), Cache::Immutable, None)))
    }

    async fn listing(&self) -> Option<Bytes> {
        None
    }

    async fn failing(&self) -> Option<String> {
        None
    }
}

impl Memory {
    /// How often segments were asked for in all.
    fn asked(&self) -> usize {
        let objects = self.objects.lock().unwrap();
        objects.iter().filter(|(path, _)| path.ends_with(".m4s")).map(|(_, (_, asked))| asked).sum()
    }
}

/// A programme of so many segments of four seconds, of two sessions, and what the pure core makes of it.
fn programme(segments: u64, takes: Duration) -> (Arc<Memory>, Contents, Vec<u8>) {
    let channel = ChannelName::new("demo").unwrap();
    let (mut objects, mut tracks, mut made, mut all) = (BTreeMap::new(), Vec::new(), Vec::new(), Vec::new());
    for (rendition, timescale, width) in [("720p", 90_000_u64, 160), ("audio", 48_000, 0)] {
        let (mut listed, mut data) = (Vec::new(), Vec::new());
        let scale = u32::try_from(timescale).unwrap();
        for number in 1..=segments {
            let session = 1 + number * 2 / (segments + 1);
            let path = |file: String| format!("live/demo/{rendition}/{session}/{file}");
            let wide = width + u16::try_from(session).unwrap() * width.min(1);
            objects.insert(path("init.mp4".to_owned()), (init(scale, wide), 0));
            let segment = one(number * 4 * timescale, &steady(40, 100 + u32::try_from(number).unwrap(), scale / 10));
            objects.insert(path(format!("{number}.m4s")), (segment.clone(), 0));
            data.push(segment);
            let (_, resource) = Resource::parse(&path(format!("{number}.m4s"))).unwrap();
            let begins = MediaTime::from_millis(4_000 * i64::try_from(number - 1).unwrap());
            listed.push(Listed { resource, programme: 0, begins });
        }
        let mut track = Track::new([1, 2].map(|n| read(scale, width + n * width.min(1))).to_vec()).unwrap();
        for (number, segment) in (1..).zip(&data) {
            let init = usize::try_from(number * 2 / (segments + 1)).unwrap();
            track.push(Placed { init, shift: MediaTime::ZERO }, &scan(segment).unwrap()).unwrap();
        }
        made.push(track);
        tracks.push(listed);
        all.push(data);
    }
    let whole = fetch(&Movie::new(made).unwrap(), &all, 0..u64::MAX);
    (Arc::new(Memory { objects: Mutex::new(objects), takes }), Contents::new(channel, tracks), whole)
}

async fn rest(mut reader: Reader) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    while let Some(next) = reader.next().await {
        bytes.extend(next?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_file_is_sent_as_it_is_made() {
    let (archive, contents, whole) = programme(10, Duration::ZERO);
    let downloads = Downloads::new(archive.clone(), 4);
    let download = downloads.open(contents.clone()).await.unwrap();
    assert_eq!((download.length(), archive.asked()), (whole.len() as u64, 20));
    let etag = download.etag().to_owned();
    assert!(rest(download.read(0..u64::MAX)).await.unwrap() == whole);
    assert_eq!(archive.asked(), 40);
    // The head is kept; of a range only its segments are read.
    for (start, end) in [(0, 1), (1, whole.len() - 1), (whole.len() - 1, whole.len()), (100, 5_000)] {
        let range = start as u64..end as u64;
        let part = rest(downloads.open(contents.clone()).await.unwrap().read(range)).await.unwrap();
        assert!(part == whole[start..end], "{start} to {end}");
    }
    assert_eq!(
        archive.asked(),
        40 + 20 + 2,
        "the first range is within the head, and the last two within a segment each"
    );
    // Another server gives the same.
    let other = Downloads::new(archive.clone(), 4);
    assert_eq!(other.open(contents.clone()).await.unwrap().etag(), etag);
    let fewer = Contents::new(contents.channel.clone(), contents.tracks[..1].to_vec());
    assert_ne!(other.open(fewer).await.unwrap().etag(), etag);
}

#[tokio::test]
async fn programmes_stand_one_behind_the_other() {
    let (mut objects, mut tracks) = (BTreeMap::new(), Vec::new());
    for (rendition, scale, width, late) in [("720p", 90_000, 160, 0), ("audio", 48_000, 0, 480)] {
        let mut listed = Vec::new();
        // The second one's clock is behind, and its sound begins a hundredth of a second after its pictures.
        for (number, (programme, second, late)) in
            [(0, 20, 0), (0, 24, 0), (1, 4, late), (1, 8, late)].into_iter().enumerate()
        {
            let path = |file: String| format!("live/demo/{rendition}/{}/{file}", programme + 1);
            objects.insert(path("init.mp4".to_owned()), (init(scale, width), 0));
            let segment = one(second * u64::from(scale) + late, &steady(40, 100, scale / 10));
            objects.insert(path(format!("{number}.m4s")), (segment, 0));
            let (_, resource) = Resource::parse(&path(format!("{number}.m4s"))).unwrap();
            let begins = MediaTime::from_millis(4_000 * i64::try_from(number).unwrap());
            listed.push(Listed { resource, programme, begins });
        }
        tracks.push(listed);
    }
    let archive = Arc::new(Memory { objects: Mutex::new(objects), takes: Duration::ZERO });
    let contents = Contents::new(ChannelName::new("demo").unwrap(), tracks);
    let download = Downloads::new(archive, 4).open(contents).await.unwrap();
    let file = rest(download.read(0..u64::MAX)).await.unwrap();
    let times = |track| -> Vec<i64> { told(&file, track).iter().map(|told| told.dts).collect() };
    assert_eq!(times(0), (0..160).map(|number| number * 9_000).collect::<Vec<_>>());
    let late = |number| if number < 80 { 0 } else { 480 };
    assert_eq!(times(1), (0..160).map(|number| number * 4_800 + late(number)).collect::<Vec<_>>());
}

#[tokio::test]
async fn nobody_takes_half_a_file_for_the_whole() {
    let (archive, contents, whole) = programme(10, Duration::ZERO);
    let downloads = Downloads::new(archive.clone(), 4);
    let download = downloads.open(contents.clone()).await.unwrap();
    archive.objects.lock().unwrap().remove("live/demo/audio/2/8.m4s").unwrap();
    let mut reader = download.read(0..u64::MAX);
    let mut sent = 0;
    let fault = loop {
        match reader.next().await.unwrap() {
            Ok(bytes) => sent += bytes.len(),
            Err(fault) => break fault,
        }
    };
    let path = "live/demo/audio/2/8.m4s".to_owned();
    assert_eq!(fault, Fault::Lacking { path: path.clone(), lack: Lack::Absent });
    assert!(sent > whole.len() / 2 && sent < whole.len());
    assert!(reader.next().await.is_none());
    // One that has changed under its name is not given out either.
    archive.objects.lock().unwrap().insert(path, (Bytes::from_static(b"short"), 0));
    let again = downloads.open(contents).await.unwrap().read(0..u64::MAX);
    assert!(matches!(rest(again).await, Err(Fault::Unfit(_))));
}

#[tokio::test]
async fn so_many_are_sent_at_a_time_and_each_reads_little_ahead() {
    let (archive, contents, whole) = programme(10, Duration::ZERO);
    let downloads = Downloads::new(archive.clone(), 1);
    let download = downloads.open(contents.clone()).await.unwrap();
    assert_eq!(downloads.open(contents.clone()).await.unwrap_err(), Fault::Busy);
    let mut reader = download.read(0..u64::MAX);
    let head = reader.next().await.unwrap().unwrap();
    assert_eq!((archive.asked(), &head[4..8]), (20, &b"ftyp"[..]));
    reader.next().await.unwrap().unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    // Who takes no more has what is sent of picture and sound, and two segments more.
    assert!((22..=24).contains(&archive.asked()), "{}", archive.asked());
    assert_eq!(downloads.open(contents.clone()).await.unwrap_err(), Fault::Busy);
    drop(reader);
    let again = downloads.open(contents).await.unwrap();
    assert!(rest(again.read(0..u64::MAX)).await.unwrap() == whole);
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_finds_it_further_on() {
    let (archive, contents, whole) = programme(30, Duration::from_secs(2));
    let downloads = Downloads::new(archive.clone(), 4);
    let begun = Instant::now();
    assert_eq!(downloads.open(contents.clone()).await.unwrap_err(), Fault::Later);
    assert_eq!(begun.elapsed(), Duration::from_secs(25));
    let mut tries = 1;
    let download = loop {
        match downloads.open(contents.clone()).await {
            Ok(download) => break download,
            Err(fault) => assert_eq!((fault, tries), (Fault::Later, 1)),
        }
        tries += 1;
    };
    assert!(tries <= 2 && archive.asked() <= 60 + tries * 4, "{} in {tries} tries", archive.asked());
    assert_eq!(download.length(), whole.len() as u64);
}

#[tokio::test]
async fn what_makes_no_file_is_refused_before_it_is_read() {
    let (archive, contents, _) = programme(4, Duration::ZERO);
    let downloads = Downloads::new(archive.clone(), 4);
    let with = |resource: Resource| {
        let mut tracks = contents.tracks.clone();
        tracks[0][3].resource = resource;
        Contents::new(contents.channel.clone(), tracks)
    };
    for _ in 0..2 {
        let fault = downloads.open(with(Resource::parse("live/demo/720p/2/4.ts").unwrap().1)).await.unwrap_err();
        assert_eq!(fault, Fault::Unfit(Unfit::MpegTs));
    }
    assert!(matches!(downloads.open(with(Resource::Multivariant)).await, Err(Fault::Unfit(Unfit::Unreadable(_)))));
    assert_eq!(archive.asked(), 0);
}
