# Settings of this corpus; README.md explains each line.
list=                # a CSV, TSV, JSON lines or parquet file, or a Hugging Face folder
list_options=()      # format of the list: ../../utils/from_csv.py --help
split_options=(--part dev=20 --part test=20 --unique_text) # ../../utils/split_data_dir.py --help
sentence_options=()  # --speaker NAME: voice for local/sentences.txt
