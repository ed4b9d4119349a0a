use super::*;

const BLOCK: usize = 4096;

/// A bmap as bmaptool writes it, of an image of 10 blocks and a half of which 1, 2 and 10 mean something.
fn text(image: &[u8]) -> String {
    let sum = |from: usize, to: usize| hex(digest(&SHA256, &image[from..to]).as_ref());
    let (one, two) = (sum(BLOCK, 3 * BLOCK), sum(10 * BLOCK, image.len()));
    signed(&format!(
        "<?xml version=\"1.0\" ?>\n<!-- a <comment> -->\n<bmap version=\"2.0\">\n<ImageSize> {} </ImageSize>\n\
         <BlockSize> 4096 </BlockSize>\n<BlocksCount> 11 </BlocksCount>\n<MappedBlocksCount> 3 </MappedBlocksCount>\n\
         <ChecksumType> sha256 </ChecksumType>\n<BmapFileChecksum> CHECK </BmapFileChecksum>\n<BlockMap>\n\
         <Range chksum=\"{one}\"> 1-2 </Range>\n<Range chksum=\"{two}\"> 10 </Range>\n</BlockMap>\n</bmap>\n",
        image.len()
    ))
}

/// With the checksum of itself in the place of CHECK.
fn signed(text: &str) -> String {
    let blanked = text.replace("CHECK", &"0".repeat(64));
    text.replace("CHECK", &hex(digest(&SHA256, blanked.as_bytes()).as_ref()))
}

fn image() -> Vec<u8> {
    let mut image = vec![0; 10 * BLOCK + 100];
    image[BLOCK..3 * BLOCK].fill(7);
    image[10 * BLOCK..].fill(9);
    image
}

fn pass(bmap: Bmap, image: &[u8], piece: usize) -> Result<(), String> {
    let mut watcher = Watcher::new(Arc::new(bmap));
    image.chunks(piece).try_for_each(|piece| watcher.pass(piece))?;
    watcher.finish()
}

#[test]
fn an_image_passes_its_own_bmap_in_pieces_of_any_size_and_another_does_not() {
    let image = image();
    let text = text(&image);
    let parse = || Bmap::parse(text.as_bytes()).unwrap();
    for piece in [1, 100, 4096, 5000, 1 << 20] {
        assert_eq!(pass(parse(), &image, piece), Ok(()));
    }
    for at in [BLOCK, 3 * BLOCK - 1, 10 * BLOCK + 99] {
        let mut other = image.clone();
        other[at] ^= 1;
        assert!(
            pass(parse(), &other, 5000).unwrap_err().contains("are not those"),
            "{at}"
        );
    }
    for at in [0, 3 * BLOCK, 10 * BLOCK - 1] {
        let mut other = image.clone();
        other[at] = 1;
        assert!(
            pass(parse(), &other, 5000)
                .unwrap_err()
                .contains("not of this image"),
            "{at}"
        );
    }
    assert!(
        pass(parse(), &image[..10 * BLOCK + 99], 5000)
            .unwrap_err()
            .contains("has 41059 bytes")
    );
    assert!(
        pass(parse(), &[&image[..], b"\0"].concat(), 5000)
            .unwrap_err()
            .contains("more than")
    );
}

#[test]
fn what_means_something_is_split_from_what_does_not() {
    let bmap = Bmap::parse(text(&image()).as_bytes()).unwrap();
    let block = BLOCK as u64;
    assert_eq!(
        bmap.split(0, 11 * block),
        [
            (0, block, false),
            (block, 3 * block, true),
            (3 * block, 10 * block, false),
            (10 * block, 11 * block, true)
        ]
    );
    assert_eq!(
        bmap.split(2 * block, 4 * block),
        [(2 * block, 3 * block, true), (3 * block, 4 * block, false)]
    );
    assert_eq!(
        bmap.split(20 * block, 21 * block),
        [(20 * block, 21 * block, false)]
    );
    assert_eq!(bmap.split(block, block), []);
}

#[test]
fn version_1_3_has_sha_1() {
    let text = "<bmap version=\"1.3\"><ImageSize>512</ImageSize><BlockSize>512</BlockSize><BlocksCount>1</BlocksCount>\
        <MappedBlocksCount>1</MappedBlocksCount><BmapFileSHA1>CHECK</BmapFileSHA1><BlockMap>\
        <Range sha1=\"5c3eb80066420002bc3dcc7ca4ab6efad7ed4ae5\">0</Range></BlockMap></bmap>";
    let blanked = text.replace("CHECK", &"0".repeat(40));
    let sum = hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, blanked.as_bytes()).as_ref());
    let bmap = Bmap::parse(text.replace("CHECK", &sum).as_bytes()).unwrap();
    // SHA-1 of 512 zeros.
    assert_eq!(pass(bmap, &[0; 512], 512), Ok(()));
}

#[test]
fn a_bmap_that_is_cut_changed_or_contradicts_itself_is_refused() {
    let text = text(&image());
    for cut in (0..text.len() - 2).step_by(7) {
        assert!(Bmap::parse(&text.as_bytes()[..cut]).is_err(), "cut at {cut}");
    }
    // One character of a range, without the checksum knowing.
    assert!(
        Bmap::parse(text.replace(" 1-2 ", " 1-3 ").as_bytes())
            .unwrap_err()
            .contains("checksum")
    );
    let plain = |from: &str, to: &str| {
        let check = text.split("<BmapFileChecksum> ").nth(1).unwrap();
        let changed = text.replace(&check[..64], "CHECK").replacen(from, to, 1);
        Bmap::parse(signed(&changed).as_bytes()).map(|_| ()).unwrap_err()
    };
    for (from, to, says) in [
        (" 1-2 ", " 1-3 ", "speaks of 3"),
        (" 1-2 ", " 2-1 ", "range"),
        (" 1-2 ", " 1-11 ", "range"),
        (" 1-2 ", " -1 ", "range"),
        (" 1-2 ", " 9-10 ", "overlap"),
        ("<BlockSize> 4096", "<BlockSize> 4095", "BlockSize"),
        ("<BlockSize> 4096", "<BlockSize> 0", "BlockSize"),
        ("<BlocksCount> 11", "<BlocksCount> 12", "blocks"),
        ("<ImageSize> 41060", "<ImageSize> 18446744073709551615", "blocks"),
        (
            "<ImageSize> 41060",
            "<ImageSize> 99999999999999999999",
            "ImageSize",
        ),
        ("version=\"2.0\"", "version=\"3.0\"", "3.0"),
        ("sha256 <", "md5 <", "md5"),
        ("<bmap ", "<!DOCTYPE x><bmap ", "document types"),
        (" 1-2 ", " &a; ", "entities"),
        ("<BlockSize> 4096 </BlockSize>", "", "no BlockSize"),
        ("<BlockMap>", "<BlockMap><BlockSize> 1 </BlockSize>", "two of"),
        ("</Range>", "</Rang>", "ends nothing"),
        ("chksum=\"", "chksum=", "attribute"),
    ] {
        let said = plain(from, to);
        assert!(said.contains(says), "{from} -> {to}: {said}");
    }
    for hostile in [
        "",
        "<",
        "<>",
        "</>",
        "< a='>",
        "<bmap",
        "<bmap version>",
        "<!--",
        "<?",
        "<a b=é>",
        "\u{feff}<é>",
    ] {
        assert!(Bmap::parse(hostile.as_bytes()).is_err(), "{hostile}");
    }
    assert!(Bmap::parse(&[0xFF, b'<']).is_err());
}
