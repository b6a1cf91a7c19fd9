# What is particular to this corpus; README.md explains it line by line.
list=                # a CSV, TSV, JSON lines or parquet file, or a Hugging Face folder
list_options=()      # how it is read: ../../utils/from_csv.py --help
split_options=(--part dev=20 --part test=20 --unique_text) # ../../utils/split_data_dir.py --help
sentence_options=()  # --speaker NAME of the voice that speaks local/sentences.txt
