"""The health of a dataset's images and labels: what is measured of each record, and what that says in plain words.

survey.py reads every record once and measures it (measures.py); findings.py says what is wrong, with the records that
it is wrong of; near.py finds images that are nearly the same, lookalikes.py folders that look like another class.
Nothing here uses TensorFlow: images are decoded by Pillow, JPEG files at a fraction of their size.

    found = find_problems(survey_dataset(load_manifest("photos_tfrecord")))
    for finding in found:
        print(finding.title, finding.advice)
"""
